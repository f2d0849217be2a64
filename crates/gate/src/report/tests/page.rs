//! A page, as a reader of it finds it.

use crate::{Transcript, report::render};
use roxmltree::{Document, Node, ParsingOptions};

/// A page that was read again as XML, which is stricter than HTML: each element
/// is closed, each attribute is quoted, and nothing unescaped is left.
pub struct Page {
    /// As it was rendered.
    pub html: String,
}

impl Page {
    pub fn of(transcript: &Transcript) -> Page {
        let html = render(transcript).unwrap();
        assert_eq!(html, render(transcript).unwrap(), "not the same twice");
        let page = Page { html };
        page.check();
        page
    }

    fn document(&self) -> Document<'_> {
        let options = ParsingOptions {
            allow_dtd: true,
            ..ParsingOptions::default()
        };
        Document::parse_with_options(&self.html, options).unwrap()
    }

    /// Nothing runs, nothing is fetched, no number is broken, ids are unique.
    fn check(&self) {
        let document = self.document();
        let mut ids = Vec::new();
        for node in document.descendants().filter(Node::is_element) {
            let name = node.tag_name().name();
            let known = [
                "html",
                "head",
                "meta",
                "title",
                "link",
                "style",
                "body",
                "main",
                "header",
                "section",
                "footer",
                "h1",
                "h2",
                "h3",
                "p",
                "ul",
                "ol",
                "li",
                "span",
                "b",
                "a",
                "bdi",
                "div",
                "dl",
                "dt",
                "dd",
                "details",
                "summary",
                "figure",
                "figcaption",
                "table",
                "thead",
                "tbody",
                "tr",
                "th",
                "td",
                "svg",
                "rect",
                "line",
                "path",
                "circle",
                "text",
            ];
            assert!(known.contains(&name), "<{name}>");
            for attribute in node.attributes() {
                let (name, value) = (attribute.name(), attribute.value());
                match name {
                    "href" => assert!(value.starts_with('#') || value == "data:,", "{value}"),
                    "src" | "style" => panic!("{name}={value}"),
                    "id" => ids.push(value),
                    "x" | "y" | "d" | "cx" | "cy" | "width" | "height" | "x1" | "x2" | "y1"
                    | "y2" | "transform" | "dy" => {
                        let plain = |c: char| c.is_ascii_digit() || " .-()MLZ".contains(c);
                        let value = value.replace("translate", "");
                        assert!(value.chars().all(plain), "{name}={value}");
                    }
                    _ => assert!(!name.starts_with("on"), "{name}={value}"),
                }
            }
        }
        let count = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), count, "an id is there twice");
    }

    /// The texts of elements with a class.
    pub fn texts(&self, class: &str) -> Vec<String> {
        let document = self.document();
        let nodes = document.descendants().filter(|node| has(node, class));
        nodes.map(text).collect()
    }

    pub fn one(&self, class: &str) -> String {
        let texts = self.texts(class);
        assert_eq!(texts.len(), 1, "{class}: {texts:?}");
        texts[0].clone()
    }

    pub fn count(&self, class: &str) -> usize {
        self.texts(class).len()
    }

    /// What stands in the heading, and of what kind it is.
    pub fn verdict(&self) -> (String, String) {
        let document = self.document();
        let mut nodes = document.descendants();
        let header = nodes.find(|node| node.has_tag_name("header")).unwrap();
        let mut nodes = header.descendants();
        let heading = nodes.find(|node| node.has_tag_name("h1")).unwrap();
        let kind = header.attribute("class").unwrap();
        (kind.to_owned(), text(heading))
    }
}

fn has(node: &Node<'_, '_>, class: &str) -> bool {
    let classes = node.attribute("class").unwrap_or_default();
    classes.split(' ').any(|one| one == class)
}

fn text(node: Node<'_, '_>) -> String {
    let texts = node
        .descendants()
        .filter(Node::is_text)
        .filter_map(|node| node.text());
    let texts: Vec<&str> = texts.collect();
    texts
        .concat()
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}
