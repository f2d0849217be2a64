//! A decoded picture.

/// Red, green and blue.
pub(crate) const COLOURS: usize = 3;

/// A picture: RGB, 8 bits each, row-major.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    pub(crate) width: usize,
    pub(crate) height: usize,
    /// 3 · width · height levels.
    pub(crate) rgb: Vec<u8>,
}

impl Image {
    /// A picture of `rgb` levels, row-major; none if they are not
    /// 3 · `width` · `height`, or if it has no pixels.
    pub fn from_rgb(width: usize, height: usize, rgb: Vec<u8>) -> Option<Image> {
        let levels = width.checked_mul(height)?.checked_mul(COLOURS)?;
        (levels > 0 && rgb.len() == levels).then_some(Image { width, height, rgb })
    }

    /// Width and height in pixels.
    pub fn size(&self) -> (usize, usize) {
        (self.width, self.height)
    }

    /// 3 · width · height levels, row-major.
    pub fn rgb(&self) -> &[u8] {
        &self.rgb
    }
}
