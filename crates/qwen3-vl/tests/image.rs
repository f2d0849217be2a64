//! Pictures become the patches that transformers' processor makes.

use qwen3_vl::image::{Image, MOST_GRID};
use qwen3_vl::{Config, Error};

/// What `Qwen2VLImageProcessor` of transformers 4.57.6 gives, as 8-bit levels.
#[test]
fn patches_are_within_one_level_of_transformers() {
    let config = Config::preset("nano").unwrap().vision_config;
    for (name, png, levels, grid) in [
        (
            "down",
            include_bytes!("fixtures/down.png").as_slice(),
            include_bytes!("fixtures/down.patches").as_slice(),
            2,
        ),
        (
            "up",
            include_bytes!("fixtures/up.png"),
            include_bytes!("fixtures/up.patches"),
            1,
        ),
    ] {
        let image = Image::decode(png, name).unwrap();
        let patches = image.patches(grid, &config).unwrap();
        assert_eq!((patches.rows, patches.cols), (4 * grid * grid, 1536));
        assert_eq!(patches.values.len(), levels.len());
        let mut off = 0;
        for (value, level) in patches.values.iter().zip(levels) {
            let found = (value.to_f32() + 1.0) * 127.5;
            assert!(
                (found - f32::from(*level)).abs() < 1.1,
                "{name}: {found} {level}"
            );
            off += usize::from((found - f32::from(*level)).abs() > 0.5);
        }
        assert!(
            off * 100 < levels.len(),
            "{name}: {off} of {} are off by one",
            levels.len()
        );
    }
}

/// A PNG of one colour with an alpha channel.
fn png(width: u32, height: u32, rgba: [u8; 4]) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    image::RgbaImage::from_pixel(width, height, image::Rgba(rgba))
        .write_to(&mut bytes, image::ImageFormat::Png)
        .unwrap_or_default();
    bytes.into_inner()
}

#[test]
fn transparent_pixels_show_white() {
    let config = Config::preset("nano").unwrap().vision_config;
    for (rgba, level) in [
        ([0, 0, 0, 0], 255.0),
        ([0, 0, 0, 255], 0.0),
        ([100, 100, 100, 128], 177.0),
    ] {
        let image = Image::decode(&png(3, 5, rgba), "test").unwrap();
        assert_eq!(image.size(), (3, 5));
        let patches = image.patches(1, &config).unwrap();
        let expected = half::f16::from_f32(level / 127.5 - 1.0);
        assert!(
            patches.values.iter().all(|value| *value == expected),
            "{rgba:?}"
        );
    }
}

#[test]
fn what_is_no_picture_is_refused() {
    let good = png(4, 4, [9; 4]);
    for bytes in [&[], b"GIF89a".as_slice(), b"hello", &good[..good.len() / 2]] {
        let error = Image::decode(bytes, "photo.png").unwrap_err();
        assert!(matches!(error, Error::Image { .. }), "{error}");
        assert!(error.to_string().contains("photo.png"), "{error}");
    }
    let error = Image::load("absent.png".as_ref()).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error}");
    let config = Config::preset("nano").unwrap().vision_config;
    let image = Image::decode(&good, "test").unwrap();
    for grid in [0, MOST_GRID + 1, usize::MAX] {
        assert!(matches!(
            image.patches(grid, &config),
            Err(Error::Grid { .. })
        ));
    }
}
