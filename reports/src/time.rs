//! Times as the records have them: RFC 3339 in UTC. This crate reads no clock.

/// Seconds since 1970 of `YYYY-MM-DDThh:mm:ssZ`, by the civil calendar (Howard Hinnant's
/// `days_from_civil`); `None` for anything else.
pub(crate) fn unix_seconds(time: &str) -> Option<i64> {
    let (date, clock) = time.strip_suffix('Z')?.split_once('T')?;
    let numbers = |text: &str, mark: char| -> Option<[i64; 3]> {
        let parts: Option<Vec<i64>> = text.split(mark).map(|part| part.parse().ok()).collect();
        parts?.try_into().ok()
    };
    let [year, month, day] = numbers(date, '-')?;
    let [hour, minute, second] = numbers(clock, ':')?;
    // Years begin in March: the leap day is their last.
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let day_of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    let year_of_era = year - 400 * era;
    let day_of_era = 365 * year_of_era + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * 146_097 + day_of_era - 719_468;
    Some(86_400 * days + 3600 * hour + 60 * minute + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_counted_by_the_calendar() {
        assert_eq!(unix_seconds("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(unix_seconds("2000-02-28T23:59:59Z"), Some(951_782_399));
        assert_eq!(unix_seconds("2000-02-29T00:00:00Z"), Some(951_782_400));
        assert_eq!(unix_seconds("2026-11-24T00:00:00Z"), Some(1_795_478_400));
        for other in [
            "",
            "2026-11-24",
            "2026-11-24T00:00:00+01:00",
            "yesterdayTnoonZ",
        ] {
            assert_eq!(unix_seconds(other), None, "{other}");
        }
    }
}
