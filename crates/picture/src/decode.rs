//! PNG and JPEG files, decoded to upright RGB levels.

use crate::{
    Error,
    image::{COLOURS, Image},
};
use png::{BitDepth, ColorType, Transformations};
use std::io::Cursor;
use std::path::Path;
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

/// The largest file of a picture that is read, in bytes.
const MAX_FILE: u64 = 1 << 28;

/// Limits: pixels along one side, pixels, and the bytes that they may take
/// as decoded: larger than any camera's, and far below what exhausts memory.
const MAX_SIDE: usize = 1 << 15;
const MAX_PIXELS: usize = 1 << 28;
const MAX_BYTES: usize = 1 << 30;

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";
const JPEG: &[u8] = &[0xff, 0xd8, 0xff];

/// What a decoder gave: samples of 8 bits, row-major, `channels` a pixel: gray
/// or red, green and blue, and alpha behind them where their number is even.
struct Decoded {
    width: usize,
    height: usize,
    channels: usize,
    samples: Vec<u8>,
    orientation: Orientation,
}

impl Image {
    /// Reads a PNG or JPEG file.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be read, or as [`Image::decode`].
    pub fn load(path: &Path) -> Result<Image, Error> {
        let name = path.display().to_string();
        Image::decode(&fsutil::read(path, MAX_FILE)?, &name)
    }

    /// Decodes a PNG or JPEG file; `name` names it in errors. The camera's
    /// orientation is applied, and what is transparent shows white. Gray levels
    /// become colours, 16 bits become 8, and CMYK becomes RGB without a colour
    /// profile.
    ///
    /// # Errors
    /// [`Error::Image`] if it is neither, broken or cut off, or too large: more
    /// than 2¹⁵ pixels along a side or 2²⁸ in all.
    pub fn decode(bytes: &[u8], name: &str) -> Result<Image, Error> {
        decode(bytes, name)
    }
}

/// The picture in a PNG or JPEG file; `name` names it in errors.
fn decode(bytes: &[u8], name: &str) -> Result<Image, Error> {
    let decoded = if bytes.starts_with(PNG) {
        png(bytes)
    } else if bytes.starts_with(JPEG) {
        jpeg(bytes)
    } else {
        Err("its first bytes are those of neither format".into())
    };
    let refuse = |message: String| Error::Image {
        file: name.into(),
        message,
    };
    let decoded = decoded.map_err(refuse)?;
    let (width, height, orientation) = (decoded.width, decoded.height, decoded.orientation);
    let rgb = on_white(decoded);
    let (width, height, rgb) = orientation.apply(width, height, rgb);
    Image::from_rgb(width, height, rgb).ok_or_else(|| refuse("it has no pixels".into()))
}

/// Refuses a picture that is too large, before anything is allocated for it.
fn check_size(width: usize, height: usize, pixel_bytes: usize) -> Result<(), String> {
    let pixels = width.saturating_mul(height);
    let bytes = pixels.saturating_mul(pixel_bytes);
    if width.max(height) > MAX_SIDE || pixels > MAX_PIXELS || bytes > MAX_BYTES {
        return Err(format!(
            "it has {width} × {height} pixels; expected at most {MAX_SIDE} along a side, \
             {MAX_PIXELS} in all and {MAX_BYTES} bytes, so make it smaller first"
        ));
    }
    Ok(())
}

fn png(bytes: &[u8]) -> Result<Decoded, String> {
    let wrong = |error: png::DecodingError| error.to_string();
    let limits = png::Limits { bytes: MAX_BYTES };
    let mut decoder = png::Decoder::new_with_limits(Cursor::new(bytes), limits);
    decoder.set_ignore_text_chunk(true);
    decoder.set_transformations(Transformations::EXPAND);
    let mut reader = decoder.read_info().map_err(wrong)?;
    let (width, height) = reader.info().size();
    let (width, height) = (width as usize, height as usize);
    let (color, depth) = reader.output_color_type();
    let channels = match color {
        ColorType::Grayscale => 1,
        ColorType::GrayscaleAlpha => 2,
        ColorType::Rgb => 3,
        ColorType::Rgba => 4,
        ColorType::Indexed => return Err("its palette is missing".into()),
    };
    let wide = depth == BitDepth::Sixteen;
    check_size(width, height, channels * if wide { 2 } else { 1 })?;
    let exif = reader
        .info()
        .exif_metadata
        .as_ref()
        .map(|exif| exif.to_vec());
    let size = reader.output_buffer_size().unwrap_or(usize::MAX);
    if size > MAX_BYTES {
        return Err(format!(
            "its rows take {size} bytes, expected at most {MAX_BYTES}"
        ));
    }
    let mut samples = vec![0; size];
    reader.next_frame(&mut samples).map_err(wrong)?;
    if wide {
        samples = narrowed(&samples);
    }
    Ok(Decoded {
        width,
        height,
        channels,
        samples,
        orientation: Orientation::of(exif.as_deref()),
    })
}

/// Big-endian samples of 16 bits, rounded to the nearest of 8.
fn narrowed(samples: &[u8]) -> Vec<u8> {
    let samples = samples.as_chunks::<2>().0.iter();
    let samples = samples.map(|bytes| u32::from(u16::from_be_bytes(*bytes)));
    samples.map(|sample| ((sample + 128) / 257) as u8).collect()
}

fn jpeg(bytes: &[u8]) -> Result<Decoded, String> {
    if !jpeg_is_whole(bytes) {
        return Err("the file is cut off".into());
    }
    let options = DecoderOptions::default()
        .set_strict_mode(false)
        .set_max_width(usize::MAX)
        .set_max_height(usize::MAX);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    let wrong = |error: zune_jpeg::errors::DecodeErrors| error.to_string();
    decoder.decode_headers().map_err(wrong)?;
    let (width, height) = decoder.dimensions().ok_or("it has no size")?;
    // Gray stays gray, which takes a third; all else becomes RGB.
    let (color, channels) = match decoder.input_colorspace() {
        Some(ColorSpace::Luma) => (ColorSpace::Luma, 1),
        _ => (ColorSpace::RGB, COLOURS),
    };
    check_size(width, height, channels)?;
    let orientation = Orientation::of(decoder.exif().map(Vec::as_slice));
    decoder.set_options(options.jpeg_set_out_colorspace(color));
    let samples = decoder.decode().map_err(wrong)?;
    Ok(Decoded {
        width,
        height,
        channels,
        samples,
        orientation,
    })
}

/// RGB levels, as they look on white paper.
fn on_white(decoded: Decoded) -> Vec<u8> {
    let over = |level: u8, alpha: u8| {
        let (level, alpha) = (u32::from(level), u32::from(alpha));
        ((level * alpha + 255 * (255 - alpha) + 127) / 255) as u8
    };
    let Decoded {
        channels, samples, ..
    } = decoded;
    match channels {
        1 => samples.iter().flat_map(|gray| [*gray; COLOURS]).collect(),
        2 => {
            let pixels = samples.as_chunks().0.iter();
            pixels
                .flat_map(|[gray, alpha]| [over(*gray, *alpha); COLOURS])
                .collect()
        }
        4 => {
            let pixels = samples.as_chunks().0.iter();
            pixels
                .flat_map(|[r, g, b, alpha]| [*r, *g, *b].map(|level| over(level, *alpha)))
                .collect()
        }
        _ => samples,
    }
}

/// How a camera was held, as the Exif standard numbers it: 1 to 8.
#[derive(Clone, Copy)]
struct Orientation(u16);

impl Orientation {
    /// What the Exif data of a file states. What cannot be understood is
    /// upright.
    fn of(exif: Option<&[u8]>) -> Orientation {
        let stated = exif.and_then(orientation_tag);
        Orientation(
            stated
                .filter(|stated| (1..=8).contains(stated))
                .unwrap_or(1),
        )
    }

    /// The picture as it was seen: its width, height and levels.
    fn apply(self, width: usize, height: usize, rgb: Vec<u8>) -> (usize, usize, Vec<u8>) {
        if self.0 == 1 || rgb.len() != COLOURS * width * height {
            return (width, height, rgb);
        }
        let rotated = self.0 >= 5;
        let (new_width, new_height) = if rotated {
            (height, width)
        } else {
            (width, height)
        };
        let mut upright = Vec::with_capacity(rgb.len());
        for y in 0..new_height {
            for x in 0..new_width {
                let (right, down) = (width - 1, height - 1);
                let (x, y) = match self.0 {
                    2 => (right - x, y),
                    3 => (right - x, down - y),
                    4 => (x, down - y),
                    5 => (y, x),
                    6 => (y, down - x),
                    7 => (right - y, down - x),
                    _ => (right - y, x),
                };
                let at = COLOURS * (y * width + x);
                upright.extend_from_slice(&rgb[at..at + COLOURS]);
            }
        }
        (new_width, new_height, upright)
    }
}

/// The value of the tag Orientation in the first directory of Exif data, which
/// is a TIFF file: bytes in the order that its start names, and entries of 12
/// bytes.
fn orientation_tag(exif: &[u8]) -> Option<u16> {
    const ORIENTATION: u16 = 0x112;
    /// A whole number of 16 bits.
    const SHORT: u16 = 3;
    const ENTRY: usize = 12;
    let little = match exif.first_chunk()? {
        b"II*\0" => true,
        b"MM\0*" => false,
        _ => return None,
    };
    let u16_at = |at: usize| {
        let bytes = *exif.get(at..)?.first_chunk()?;
        Some(if little {
            u16::from_le_bytes(bytes)
        } else {
            u16::from_be_bytes(bytes)
        })
    };
    let u32_at = |at: usize| {
        let bytes = *exif.get(at..)?.first_chunk()?;
        Some(if little {
            u32::from_le_bytes(bytes)
        } else {
            u32::from_be_bytes(bytes)
        })
    };
    let directory = usize::try_from(u32_at(4)?).ok()?;
    let entries = u16_at(directory)?;
    let mut entry = directory.checked_add(2)?;
    for _ in 0..entries {
        let next = entry.checked_add(ENTRY)?;
        let one_short = u16_at(entry + 2)? == SHORT && u32_at(entry + 4)? == 1;
        if u16_at(entry)? == ORIENTATION && one_short {
            return u16_at(entry + 8);
        }
        entry = next;
    }
    None
}

/// Whether a JPEG file has its end: the decoder makes gray of what is missing,
/// and an answer about half a picture is wrong.
fn jpeg_is_whole(bytes: &[u8]) -> bool {
    const END: u8 = 0xd9;
    const SCAN: u8 = 0xda;
    let mut at = 2;
    while let Some(&[first, marker]) = bytes.get(at..at + 2).and_then(|m| m.first_chunk()) {
        match (first, marker) {
            (0xff, END) => return true,
            // Fillers, and markers without a length.
            (0xff, 0xff) => at += 1,
            (0xff, 0x01 | 0xd0..=0xd8) => at += 2,
            (0xff, _) => {
                let Some(length) = bytes.get(at + 2..).and_then(|rest| rest.first_chunk()) else {
                    return false;
                };
                at += 2 + usize::from(u16::from_be_bytes(*length));
                if marker == SCAN {
                    at = scan_end(bytes, at);
                }
            }
            // Not between markers: the decoder judges that.
            _ => return true,
        }
    }
    false
}

/// Where the coded data that begins at `from` ends: at the next marker.
fn scan_end(bytes: &[u8], from: usize) -> usize {
    let rest = bytes.get(from..).unwrap_or_default();
    let is_marker = |pair: &[u8]| pair[0] == 0xff && !matches!(pair[1], 0x00 | 0xd0..=0xd7);
    let length = rest.windows(2).position(is_marker);
    length.map_or(bytes.len(), |length| from + length)
}
