//! As much of writing DER as AMD's certificates need.

/// One element: tag, length in its shortest form, content.
#[must_use]
pub fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let mut out = vec![tag];
    let len = u16::try_from(content.len()).expect("certificates are small");
    match len.to_be_bytes() {
        [0, len @ 0..=0x7f] => out.push(len),
        [0, len] => out.extend_from_slice(&[0x81, len]),
        [high, low] => out.extend_from_slice(&[0x82, high, low]),
    }
    out.extend_from_slice(&content);
    out
}

/// SEQUENCE.
#[must_use]
pub fn seq(parts: &[&[u8]]) -> Vec<u8> {
    tlv(0x30, parts)
}

/// An INTEGER that is not negative, from its big-endian bytes.
#[must_use]
pub fn unsigned(bytes: &[u8]) -> Vec<u8> {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    let trimmed = bytes.get(zeros..).unwrap_or_default();
    match trimmed.first() {
        None => tlv(2, &[&[0]]),
        Some(0x80..) => tlv(2, &[&[0], trimmed]),
        Some(_) => tlv(2, &[trimmed]),
    }
}

/// BIT STRING without unused bits.
#[must_use]
pub fn bits(bytes: &[u8]) -> Vec<u8> {
    tlv(3, &[&[0], bytes])
}

/// UTCTime of seconds since 1970, for years before 2050; GeneralizedTime from then on.
#[must_use]
pub fn time(seconds: i64) -> Vec<u8> {
    // Days to a date, after Howard Hinnant's civil_from_days.
    let (days, rest) = (seconds.div_euclid(86400), seconds.rem_euclid(86400));
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let clock = format!("{month:02}{day:02}{:02}{:02}{:02}Z", rest / 3600, rest / 60 % 60, rest % 60);
    if year < 2050 {
        tlv(0x17, &[format!("{:02}{clock}", year % 100).as_bytes()])
    } else {
        tlv(0x18, &[format!("{year:04}{clock}").as_bytes()])
    }
}

/// OBJECT IDENTIFIER below 1.3.6.1.4.1.3704.1, AMD's arc for these certificates.
#[must_use]
pub fn amd_oid(tail: &[u8]) -> Vec<u8> {
    tlv(6, &[b"\x2b\x06\x01\x04\x01\x9c\x78\x01", tail])
}

/// A name as AMD writes it, with this common name.
#[must_use]
pub fn name(common_name: &str) -> Vec<u8> {
    let part = |oid: &[u8], tag: u8, text: &str| tlv(0x31, &[&seq(&[&tlv(6, &[oid]), &tlv(tag, &[text.as_bytes()])])]);
    seq(&[
        &part(b"\x55\x04\x0b", 0x0c, "Engineering"),
        &part(b"\x55\x04\x06", 0x13, "US"),
        &part(b"\x55\x04\x07", 0x0c, "Santa Clara"),
        &part(b"\x55\x04\x08", 0x0c, "CA"),
        &part(b"\x55\x04\x0a", 0x0c, "Advanced Micro Devices"),
        &part(b"\x55\x04\x03", 0x0c, common_name),
    ])
}

/// An extension.
#[must_use]
pub fn extension(oid: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let critical: &[u8] = if critical { b"\x01\x01\xff" } else { b"" };
    seq(&[oid, critical, &tlv(4, &[value])])
}

/// RSASSA-PSS with SHA-384, MGF1 with SHA-384, salt of 48 bytes; with the trailerField written out, as AMD's roots have it,
/// or left away, as its newer keys do.
#[must_use]
pub fn pss_sha384(trailer: bool) -> Vec<u8> {
    let sha384 = seq(&[b"\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x02", b"\x05\x00"]);
    let mgf = seq(&[b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x08", &sha384]);
    let trailer: &[u8] = if trailer { b"\xa3\x03\x02\x01\x01" } else { b"" };
    let parameters = seq(&[&tlv(0xa0, &[&sha384]), &tlv(0xa1, &[&mgf]), b"\xa2\x03\x02\x01\x30", trailer]);
    seq(&[b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a", &parameters])
}
