//! Quantities as Kubernetes writes them (`500m`, `2`, `256Mi`; <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/>),
//! as numbers that can be compared.

use super::spec::Resources;
use std::str::FromStr;

/// A non-negative quantity, in thousandths of its unit, rounded up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quantity {
    pub thousandths: u128,
}

/// Not a quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not a Kubernetes quantity, as in `500m`, `2`, `256Mi`")]
pub struct NotAQuantity;

/// Thousandths in one of each.
const SUFFIXES: &[(&str, u128)] = &[
    ("", 1_000),
    ("m", 1),
    ("k", 1_000 * 1_000),
    ("M", 1_000 * 1_000_000),
    ("G", 1_000 * 1_000_000_000),
    ("T", 1_000 * 1_000_000_000_000),
    ("P", 1_000 * 1_000_000_000_000_000),
    ("E", 1_000 * 1_000_000_000_000_000_000),
    ("Ki", 1_000 << 10),
    ("Mi", 1_000 << 20),
    ("Gi", 1_000 << 30),
    ("Ti", 1_000 << 40),
    ("Pi", 1_000 << 50),
    ("Ei", 1_000 << 60),
];
/// On each side of the point: more would not fit a number, and mean nothing.
const MAX_DIGITS: usize = 15;

impl FromStr for Quantity {
    type Err = NotAQuantity;

    /// Decimal digits, an optional fraction, an optional suffix.
    fn from_str(text: &str) -> Result<Self, NotAQuantity> {
        let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let suffix = &text[number.len()..];
        let (_, unit) = SUFFIXES.iter().find(|(known, _)| *known == suffix).ok_or(NotAQuantity)?;
        let (whole, fraction) = match number.split_once('.') {
            Some((whole, fraction)) => (digits(whole)?, Some(fraction)),
            None => (digits(number)?, None),
        };
        let part = match fraction {
            Some(fraction) => (digits(fraction)? * unit).div_ceil(10u128.pow(fraction.len() as u32)),
            None => 0,
        };
        Ok(Self { thousandths: whole * unit + part })
    }
}

impl Quantity {
    pub fn is_zero(self) -> bool {
        self.thousandths == 0
    }
}

/// Whether an amount is zero: such were accepted once, and are no limit to a kubelet.
pub fn is_zero(amount: &str) -> bool {
    amount.parse().is_ok_and(Quantity::is_zero)
}

/// The fields that ask for nothing at all.
pub fn zeros(asked: &Resources) -> Vec<&'static str> {
    named(asked).into_iter().filter(|(_, asked)| asked.is_some_and(is_zero)).map(|(name, _)| name).collect()
}

/// What is asked for more of than there may be: the field's name, and the most.
pub fn excess<'a>(asked: &Resources, most: &'a Resources) -> Vec<(&'static str, &'a str)> {
    let is_more = |asked: &str, most: &str| {
        let quantity = |text: &str| text.parse::<Quantity>().ok();
        quantity(asked).zip(quantity(most)).is_some_and(|(asked, most)| asked > most)
    };
    named(asked)
        .into_iter()
        .zip(named(most))
        .filter_map(|((name, asked), (_, most))| Some((name, asked?, most?)))
        .filter(|(_, asked, most)| is_more(asked, most))
        .map(|(name, _, most)| (name, most))
        .collect()
}

fn named(resources: &Resources) -> [(&'static str, Option<&str>); 3] {
    [
        ("cpu", resources.cpu.as_deref()),
        ("memory", resources.memory.as_deref()),
        ("ephemeral_storage", resources.ephemeral_storage.as_deref()),
    ]
}

fn digits(text: &str) -> Result<u128, NotAQuantity> {
    let are = (1..=MAX_DIGITS).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    if are { text.parse().map_err(|_| NotAQuantity) } else { Err(NotAQuantity) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thousandths(text: &str) -> u128 {
        text.parse::<Quantity>().unwrap().thousandths
    }

    #[test]
    fn suffixes_are_kubernetes() {
        for (text, expected) in [
            ("0", 0),
            ("500m", 500),
            ("2", 2_000),
            ("0.5", 500),
            ("1.5k", 1_500_000),
            ("256Mi", 256 * 1_048_576 * 1_000),
            ("1Gi", 1_073_741_824_000),
            ("1.0001", 1_001),
        ] {
            assert_eq!(thousandths(text), expected, "{text}");
        }
        assert!(thousandths("1G") < thousandths("1Gi"));
        assert!(thousandths("999999999999999.999999999999999Ei") > thousandths("999999999999999Ei"));
    }

    #[test]
    fn anything_else_is_refused() {
        for bad in ["", "m", "-1", "+1", "1e3", "1 Gi", "1.", ".5", "1.5.1", "1KiB", "1Ei0", "lots", "1234567890123456"]
        {
            assert_eq!(bad.parse::<Quantity>(), Err(NotAQuantity), "{bad}");
        }
    }
    #[test]
    fn amounts_are_compared_as_numbers() {
        let resources = |cpu: &str, memory: &str| Resources {
            cpu: Some(cpu.to_owned()),
            memory: Some(memory.to_owned()),
            ephemeral_storage: None,
        };
        let most = Resources { ephemeral_storage: Some("1Gi".to_owned()), ..resources("4", "8Gi") };
        for (cpu, memory, expected) in [
            ("4", "8Gi", vec![]),
            ("4000m", "8192Mi", vec![]),
            ("500m", "8G", vec![]),
            ("4001m", "8589934593", vec![("cpu", "4"), ("memory", "8Gi")]),
            ("4.0001", "9G", vec![("cpu", "4"), ("memory", "8Gi")]),
            ("10", "0.1Ti", vec![("cpu", "4"), ("memory", "8Gi")]),
            ("0", "0.0Mi", vec![]),
        ] {
            assert_eq!(excess(&resources(cpu, memory), &most), expected, "{cpu} {memory}");
        }
        let storage = |text: &str| Resources { ephemeral_storage: Some(text.to_owned()), ..Resources::default() };
        assert_eq!(excess(&storage("1025Mi"), &most), [("ephemeral_storage", "1Gi")]);
        assert!(excess(&Resources::default(), &most).is_empty());
        assert!(excess(&storage("1Pi"), &Resources::default()).is_empty(), "no bound");
    }

    #[test]
    fn what_asks_for_nothing_is_named() {
        let amount = |text: &str| Some(text.to_owned());
        let asked = Resources { cpu: amount("0"), memory: amount("1"), ephemeral_storage: amount("0.00Mi") };
        assert_eq!(zeros(&asked), ["cpu", "ephemeral_storage"]);
        assert!(zeros(&Resources::default()).is_empty());
    }
}
