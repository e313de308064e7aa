//! Functions that serialize times and durations for files.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serializer;

/// Serializes a duration as a number of milliseconds, with microseconds as decimals.
///
/// # Errors
///
/// When the serializer fails.
pub fn millis<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    let micros = duration.subsec_micros();
    let seconds = duration.as_secs_f64().trunc();
    serializer.serialize_f64(seconds.mul_add(1000.0, f64::from(micros) / 1000.0))
}

/// Serializes a time in the format of RFC 3339, in UTC, with milliseconds.
///
/// # Errors
///
/// When the serializer fails.
pub fn rfc3339<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    // A time before 1970 becomes 1970, since the clock is wrong in any case.
    let time = (*time).max(UNIX_EPOCH);
    serializer.collect_str(&humantime::format_rfc3339_millis(time))
}

/// Functions that serialize durations as whole milliseconds.
pub mod whole_millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    /// Serializes a duration.
    ///
    /// # Errors
    ///
    /// When the serializer fails.
    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        millis.serialize(serializer)
    }

    /// Deserializes a duration.
    ///
    /// # Errors
    ///
    /// When the value is no number.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }
}

/// Functions that serialize optional times as milliseconds since 1970.
pub mod unix_millis {
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    /// Serializes a time. A time before 1970 becomes 0.
    ///
    /// # Errors
    ///
    /// When the serializer fails.
    pub fn serialize<S: Serializer>(
        time: &Option<SystemTime>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let millis = time.map(|time| {
            let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        });
        millis.serialize(serializer)
    }

    /// Deserializes a time. A time that the system cannot represent becomes `None`.
    ///
    /// # Errors
    ///
    /// When the value is no number.
    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<SystemTime>, D::Error> {
        let millis = Option::<u64>::deserialize(deserializer)?;
        Ok(millis.and_then(|millis| UNIX_EPOCH.checked_add(Duration::from_millis(millis))))
    }
}

#[cfg(test)]
mod tests {
    use serde::Serialize;

    use super::*;

    #[derive(Serialize)]
    struct At(#[serde(serialize_with = "rfc3339")] SystemTime);

    #[test]
    fn a_time_is_written_to_the_millisecond() {
        let time = UNIX_EPOCH + Duration::from_millis(951_827_696_789);
        let text = |time| serde_json::to_value(At(time)).unwrap();
        assert_eq!(text(time), "2000-02-29T12:34:56.789Z");
        let before = UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(text(before), "1970-01-01T00:00:00.000Z");
    }
}
