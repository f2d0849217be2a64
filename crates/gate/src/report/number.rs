//! Numbers, written out for people.

use crate::transcript::Measure;

/// A power of ten: `10⁻³`.
pub fn power(power: i32) -> String {
    let raised = |digit: char| match digit {
        '-' => '⁻',
        '0' => '⁰',
        '1' => '¹',
        '2' => '²',
        '3' => '³',
        '4' => '⁴',
        '5' => '⁵',
        '6' => '⁶',
        '7' => '⁷',
        '8' => '⁸',
        _ => '⁹',
    };
    match power {
        0 => "1".to_owned(),
        1 => "10".to_owned(),
        _ => format!(
            "10{}",
            power.to_string().chars().map(raised).collect::<String>()
        ),
    }
}

/// With three digits, and a power of ten where that is shorter.
pub fn short(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return format!("{}", value + 0.0);
    }
    let scientific = format!("{value:.2e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let trim = |digits: &str| {
        let trimmed = if digits.contains('.') {
            digits.trim_end_matches('0').trim_end_matches('.')
        } else {
            digits
        };
        trimmed.to_owned()
    };
    match exponent {
        -3..=4 => trim(&format!("{value:.*}", (2 - exponent).max(0) as usize)),
        _ => format!("{} · {}", trim(digits), power(exponent)),
    }
}

/// A whole number with its thousands apart.
pub fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let (sign, digits) = match digits.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", &*digits),
    };
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    format!("{sign}{text}")
}

/// A value of a series. A cosine has the digits in which it differs from 1.
pub fn value(measure: Measure, value: f64) -> String {
    let apart = 1.0 - value;
    match measure {
        Measure::Cosine if apart == 0.0 => "1".to_owned(),
        Measure::Cosine if apart.abs() < 1e-7 => {
            let sign = if apart > 0.0 { '−' } else { '+' };
            format!("1 {sign} {}", short(apart.abs()))
        }
        Measure::Cosine if apart.is_finite() => {
            let digits = (2.0 - apart.abs().log10().floor()).clamp(3.0, 9.0);
            format!("{value:.*}", digits as usize)
        }
        _ => short(value),
    }
}

#[cfg(test)]
mod tests {
    use super::{grouped, power, short, value};
    use crate::transcript::Measure;

    #[test]
    fn short_numbers() {
        let written = [
            (0.0, "0"),
            (-0.0, "0"),
            (0.1, "0.1"),
            (0.004712, "0.00471"),
            (12.0, "12"),
            (1234.5, "1234"),
            (99_999.0, "1 · 10⁵"),
            (8.3e-13, "8.3 · 10⁻¹³"),
            (-2.5, "-2.5"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "inf"),
        ];
        for (number, text) in written {
            assert_eq!(short(number), text);
        }
        assert_eq!([power(-12), power(0), power(2)], ["10⁻¹²", "1", "10²"]);
        assert_eq!(grouped(151_936.0), "151,936");
        assert_eq!(grouped(-1_000.0), "-1,000");
        assert_eq!(grouped(999.0), "999");
    }

    #[test]
    fn a_cosine_shows_where_it_leaves_one() {
        let written = [
            (1.0, "1"),
            (0.999_683_4, "0.999683"),
            (0.5, "0.500"),
            (-1.0, "-1.000"),
            (1.0 - 8.3e-13, "1 − 8.3 · 10⁻¹³"),
            (1.0 + 4.44e-16, "1 + 4.44 · 10⁻¹⁶"),
            (f64::NAN, "NaN"),
        ];
        for (cosine, text) in written {
            assert_eq!(value(Measure::Cosine, cosine), text);
        }
    }
}
