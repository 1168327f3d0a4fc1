//! Sizes as callers write them: `'4GiB'`, or bytes as a number.

use serde_json::Value;

/// Bytes; `None` for what is no size.
pub(crate) fn read(value: &Value) -> Option<u64> {
    match value {
        Value::Number(n) => n.as_u64().or_else(|| n.as_f64().and_then(whole_bytes)),
        Value::String(text) => parse(text),
        _ => None,
    }
}

/// What a caller is told who wrote no size.
pub(crate) const HINT: &str = "Write it like '512MiB' (KiB, MiB, GiB or TiB), or as a number of bytes.";

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked right before")]
fn whole_bytes(n: f64) -> Option<u64> {
    (n.fract() == 0.0 && (0.0..=9_007_199_254_740_992.0).contains(&n)).then_some(n as u64)
}

/// Accepts binary units only: GB may mean either, and they differ by 7 %.
fn parse(text: &str) -> Option<u64> {
    let text = text.trim();
    let (number, shift) = ["KiB", "MiB", "GiB", "TiB"]
        .iter()
        .zip([10, 20, 30, 40])
        .find_map(|(unit, shift)| Some((text.strip_suffix(unit)?.trim_end(), shift)))?;
    let plain = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let number: f64 = number.parse().ok().filter(|_| plain)?;
    whole_bytes((number * (1_u64 << shift) as f64).round())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn binary_units_and_whole_bytes_alone() {
        for (value, bytes) in [
            (json!("512MiB"), 512 << 20),
            (json!("1.5 GiB"), 1536 << 20),
            (json!("64KiB"), 65_536),
            (json!(1_048_576), 1 << 20),
            (json!(1e6), 1_000_000),
        ] {
            assert_eq!(read(&value), Some(bytes), "{value}");
        }
        for wrong in
            [json!("512"), json!("512MB"), json!("512m"), json!("-1MiB"), json!("1e3MiB"), json!("MiB"), json!("")]
                .into_iter()
                .chain([json!(-1), json!(1.5), json!(1e300), json!(true), json!(null), json!("9999999999999TiB")])
        {
            assert_eq!(read(&wrong), None, "{wrong}");
        }
    }
}
