//! Moments as people read them.

use x509_parser::time::ASN1Time;

/// Seconds since 1970 in RFC 3339, UTC; what the calendar cannot name stays a number.
pub(crate) fn rfc3339(seconds: i64) -> String {
    let Ok(time) = ASN1Time::from_timestamp(seconds) else { return format!("{seconds} s since 1970") };
    let moment = time.to_datetime();
    let ((year, month, day), (hour, minute, second)) = (moment.to_calendar_date(), moment.to_hms());
    format!("{year:04}-{:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z", u8::from(month))
}

#[cfg(test)]
mod tests {
    use super::rfc3339;

    #[test]
    fn every_number_is_told() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(951_827_696), "2000-02-29T12:34:56Z");
        assert_eq!(rfc3339(i64::MAX), "9223372036854775807 s since 1970");
    }
}
