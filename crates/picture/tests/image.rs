//! Pictures become the patches that transformers' processor makes.

// Helpers outside test functions, which clippy.toml does not exempt.
#![allow(clippy::unwrap_used)]

use picture::PatchSpec;

use picture::Image;

use picture::Error;
use picture::MAX_GRID;
use std::path::Path;

/// What the published checkpoints state.
const SPEC: PatchSpec = PatchSpec {
    patch_size: 16,
    merge_size: 2,
    temporal_patch_size: 2,
};

/// What `Qwen2VLImageProcessor` of transformers 4.57.6 gives, as 8-bit levels.
#[test]
fn patches_are_within_one_level_of_transformers() {
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
        let patches = image.patches(grid, SPEC).unwrap();
        assert_eq!((patches.rows, patches.cols), (4 * grid * grid, 1536));
        assert_eq!(patches.values.len(), levels.len());
        let mut off = 0;
        for (value, level) in patches.values.iter().zip(levels) {
            let found = (value + 1.0) * 127.5;
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
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Rgba);
    let pixels = rgba.repeat((width * height) as usize);
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&pixels).unwrap();
    writer.finish().unwrap();
    bytes
}

#[test]
fn transparent_pixels_show_white() {
    for (rgba, level) in [
        ([0, 0, 0, 0], 255.0),
        ([0, 0, 0, 255], 0.0),
        ([100, 100, 100, 128], 177.0),
    ] {
        let image = Image::decode(&png(3, 5, rgba), "test").unwrap();
        assert_eq!(image.size(), (3, 5));
        let patches = image.patches(1, SPEC).unwrap();
        let expected = half::f16::from_f32(level / 127.5 - 1.0);
        assert!(
            patches.to_f16().iter().all(|value| *value == expected),
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
    assert!(matches!(error, Error::File(_)), "{error}");
    let image = Image::decode(&good, "test").unwrap();
    for grid in [0, MAX_GRID + 1, usize::MAX] {
        assert!(matches!(image.patches(grid, SPEC), Err(Error::Grid { .. })));
    }
}

/// Compares levels, which may differ by `max`.
fn assert_levels(name: &str, found: &[u8], expected: &[u8], max: u8) {
    assert_eq!(found.len(), expected.len(), "{name}");
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!(
            found.abs_diff(*expected) <= max,
            "{name}: level {index} is {found}, expected {expected}"
        );
    }
}

/// `oracles/pictures.py` drew files of many kinds, and recorded how Pillow
/// shows them: rotated as the camera says, on white.
#[test]
fn pictures_look_as_in_pillow() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pictures");
    let list = std::fs::read(folder.join("pictures.json")).unwrap();
    let list: serde_json::Value = serde_json::from_slice(&list).unwrap();
    let list = list.as_object().unwrap();
    assert!(list.len() >= 30);
    for (name, expected) in list {
        let image = Image::load(&folder.join(name)).unwrap();
        let size = |key: &str| expected[key].as_u64().unwrap() as usize;
        assert_eq!(image.size(), (size("width"), size("height")), "{name}");
        let Some(hex) = expected["rgb"].as_str() else {
            continue;
        };
        let bytes = hex.as_bytes().chunks(2).map(|pair| {
            let pair = std::str::from_utf8(pair).unwrap();
            u8::from_str_radix(pair, 16).unwrap()
        });
        let max = match name.as_str() {
            // Pillow cuts 16 bits off at 8 where we round.
            name if name.contains("-16") => 1,
            // Two decoders may round otherwise, and spread colours that are
            // stored at half the size otherwise.
            "half-colour.jpg" => 8,
            name if name.ends_with(".jpg") => 3,
            _ => 0,
        };
        assert_levels(name, image.rgb(), &bytes.collect::<Vec<u8>>(), max);
    }
}

/// The same through to the patches of transformers' processor.
#[test]
fn a_turned_clear_photo_has_the_patches_of_transformers() {
    let photo = include_bytes!("fixtures/pictures/photo.png");
    let levels = include_bytes!("fixtures/pictures/photo.patches");
    let photo = Image::decode(photo, "photo").unwrap();
    let patches = photo.patches(2, SPEC).unwrap();
    assert_eq!((patches.rows, patches.cols), (16, 1536));
    let found: Vec<u8> = patches
        .values
        .iter()
        .map(|value| ((value + 1.0) * 127.5).round() as u8)
        .collect();
    assert_levels("photo", &found, levels, 0);
}

#[test]
fn a_spec_states_the_shape_of_its_patches() {
    let image = Image::from_rgb(2, 1, vec![255, 0, 0, 0, 0, 255]).unwrap();
    for patch_size in [14, 16] {
        for temporal_patch_size in [1, 2, 8] {
            let spec = PatchSpec {
                patch_size,
                temporal_patch_size,
                ..SPEC
            };
            for grid in [1, 4, 14] {
                let patches = image.patches(grid, spec).unwrap();
                let shape = (spec.rows(grid), spec.cols());
                assert_eq!((patches.rows, patches.cols), shape);
                assert_eq!(patches.rows, 4 * grid * grid);
                let cols = 3 * temporal_patch_size * patch_size * patch_size;
                assert_eq!(patches.cols, cols);
                assert_eq!(patches.values.len(), patches.rows * patches.cols);
            }
        }
    }
}

#[test]
fn patches_that_no_memory_holds_are_refused() {
    let image = Image::from_rgb(2, 1, vec![255, 0, 0, 0, 0, 255]).unwrap();
    let spec = |patch_size, merge_size, temporal_patch_size| PatchSpec {
        patch_size,
        merge_size,
        temporal_patch_size,
    };
    for (grid, spec) in [
        (64, spec(64, 16, 16)),
        (1, spec(usize::MAX, 2, 2)),
        (1, spec(16, 0, 2)),
        (1, spec(0, 2, 2)),
        (1, spec(16, 2, 0)),
    ] {
        let refused = image.patches(grid, spec);
        assert!(matches!(refused, Err(Error::Cut { .. })), "{spec:?}");
        let none = picture::Patches {
            rows: 0,
            cols: 0,
            values: Vec::new(),
        };
        assert_eq!(none.pixels(grid, spec), None);
    }
    // The largest of the published models.
    spec(16, 2, 2).check(picture::MAX_GRID).unwrap();
}

#[test]
fn pictures_larger_than_any_cameras_are_refused_before_they_are_decoded() {
    // The size that a PNG states, with the checksum that belongs to it, and
    // that of a JPEG; neither file has so many pixels.
    let size = |width: u32, height: u32| {
        let mut header = b"IHDR".to_vec();
        header.extend(width.to_be_bytes());
        header.extend(height.to_be_bytes());
        header.extend([8, 0, 0, 0, 0]);
        let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\r".to_vec();
        png.extend(&header);
        png.extend(crc(&header).to_be_bytes());
        // An empty stream of pixels.
        png.extend(b"\0\0\0\x08IDAT\x78\x9c\x03\0\0\0\0\x01");
        png.extend(crc(b"IDAT\x78\x9c\x03\0\0\0\0\x01").to_be_bytes());
        png
    };
    for (width, height) in [
        (30_000, 30_000),
        (1 << 31, 1),
        (1, 1 << 31),
        (40_000, 10),
        (u32::MAX >> 1, u32::MAX >> 1),
    ] {
        let error = Image::decode(&size(width, height), "bomb.png").unwrap_err();
        assert!(matches!(error, Error::Image { .. }), "{error}");
    }
    let message = Image::decode(&size(30_000, 30_000), "bomb.png")
        .unwrap_err()
        .to_string();
    assert!(message.contains("30000 × 30000 pixels"), "{message}");

    let mut jpeg = include_bytes!("fixtures/pictures/turned-1.jpg").to_vec();
    let frame = jpeg
        .windows(2)
        .position(|pair| pair == [0xff, 0xc0])
        .unwrap();
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0xff; 4]);
    let message = Image::decode(&jpeg, "bomb.jpg").unwrap_err().to_string();
    assert!(message.contains("65535 × 65535 pixels"), "{message}");
}

/// The checksum of a PNG chunk.
fn crc(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 * (crc & 1))
        })
    };
    !bytes.iter().fold(!0, step)
}

#[test]
fn half_a_jpeg_is_refused() {
    for whole in [
        include_bytes!("fixtures/pictures/turned-6.jpg").as_slice(),
        include_bytes!("fixtures/pictures/progressive.jpg"),
        include_bytes!("fixtures/pictures/gray.jpg"),
    ] {
        assert!(Image::decode(whole, "whole.jpg").is_ok());
        for length in 0..whole.len() - 1 {
            let error = Image::decode(&whole[..length], "half.jpg").unwrap_err();
            assert!(matches!(error, Error::Image { .. }), "{length}: {error}");
        }
        // Phones add a film after the picture.
        let film = [whole, b"\0\0\0\x18ftypmp42\xff\xda\0\x02"].concat();
        assert!(Image::decode(&film, "film.jpg").is_ok());
    }
}

#[test]
fn levels_make_a_picture() {
    let image = Image::from_rgb(2, 1, vec![1, 2, 3, 4, 5, 6]).unwrap();
    assert_eq!(
        (image.size(), image.rgb()),
        ((2, 1), [1, 2, 3, 4, 5, 6].as_slice())
    );
    assert_eq!(Image::from_rgb(2, 2, vec![0; 6]), None);
    assert_eq!(Image::from_rgb(0, 0, Vec::new()), None);
    assert_eq!(Image::from_rgb(usize::MAX, 2, Vec::new()), None);
}
