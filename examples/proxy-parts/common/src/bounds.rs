//! Functions that deserialize a number within bounds. A larger number is a typo, and would cause an
//! overflow later, such as a time that cannot be added to the current time, or a queue that cannot
//! be allocated.

use serde::Deserialize as _;
use serde::de::{Deserializer, Error};
use std::num::NonZeroU64;

/// Deserializes a number from 1 to `MOST`.
///
/// # Errors
///
/// When the value is no whole number, or is outside these bounds.
pub fn positive<'de, D, T, const MOST: u64>(from: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<NonZeroU64>,
{
    let given = u64::deserialize(from)?;
    let number = NonZeroU64::new(given).filter(|number| number.get() <= MOST);
    let number = number.and_then(|number| T::try_from(number).ok());
    number.ok_or_else(|| Error::custom(format_args!("expected a whole number from 1 to {MOST}")))
}

/// Deserializes a number from 0 to `MOST`.
///
/// # Errors
///
/// When the value is no whole number, or is outside these bounds.
pub fn natural<'de, D, T, const MOST: u64>(from: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<u64>,
{
    let given = Some(u64::deserialize(from)?).filter(|number| *number <= MOST);
    let number = given.and_then(|number| T::try_from(number).ok());
    number.ok_or_else(|| Error::custom(format_args!("expected a whole number from 0 to {MOST}")))
}

/// Deserializes an optional number from 1 to `MOST`.
///
/// # Errors
///
/// When there is a value that is no whole number, or is outside these bounds.
pub fn optional<'de, D, T, const MOST: u64>(from: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<NonZeroU64>,
{
    let Some(given) = Option::<u64>::deserialize(from)? else {
        return Ok(None);
    };
    let number = NonZeroU64::new(given).filter(|number| number.get() <= MOST);
    let number = number.and_then(|number| T::try_from(number).ok());
    number
        .map(Some)
        .ok_or_else(|| Error::custom(format_args!("expected a whole number from 1 to {MOST}")))
}
