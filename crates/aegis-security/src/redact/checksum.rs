//! Checksums of personal numbers, each by its published rule. Input is ASCII without separators.

fn digit(byte: u8) -> Option<u32> {
    byte.is_ascii_digit().then(|| u32::from(byte - b'0'))
}

/// The digits of a number of exactly `count`; `None` if it is another or all are alike.
fn digits(number: &str, count: usize) -> Option<Vec<u32>> {
    let digits: Option<Vec<u32>> = number.bytes().map(digit).collect();
    let digits = digits.filter(|digits| digits.len() == count)?;
    let varied = digits.windows(2).any(|pair| pair.first() != pair.last());
    varied.then_some(digits)
}

fn weighted(digits: &[u32], weights: impl IntoIterator<Item = u32>) -> u32 {
    digits.iter().zip(weights).map(|(digit, weight)| digit * weight).sum()
}

/// ISO/IEC 7812-1, annex B: from the right, every second digit doubled.
pub(super) fn luhn(number: &str) -> bool {
    let mut sum = 0;
    for (place, byte) in number.bytes().rev().enumerate() {
        let Some(digit) = digit(byte) else { return false };
        let doubled = digit * 2;
        sum += if place % 2 == 0 { digit } else { doubled / 10 + doubled % 10 };
    }
    sum % 10 == 0
}

/// Length of an IBAN by country (the SWIFT registry), 0 where there is none.
pub(super) fn iban_length(country: &str) -> usize {
    match country {
        "NO" => 15,
        "BE" => 16,
        "DK" | "FI" | "FO" | "GL" | "NL" => 18,
        "MK" | "SI" => 19,
        "AT" | "BA" | "EE" | "KZ" | "LT" | "LU" | "XK" => 20,
        "CH" | "CR" | "HR" | "LI" | "LV" => 21,
        "BG" | "BH" | "DE" | "GB" | "GE" | "IE" | "ME" | "RS" => 22,
        "AE" | "GI" | "IL" | "IQ" => 23,
        "AD" | "CZ" | "ES" | "MD" | "PK" | "RO" | "SA" | "SE" | "SK" | "TN" => 24,
        "PT" => 25,
        "IS" | "TR" => 26,
        "FR" | "GR" | "IT" | "MC" | "SM" => 27,
        "AL" | "AZ" | "CY" | "DO" | "GT" | "HU" | "LB" | "PL" => 28,
        "BR" | "EG" | "PS" | "QA" | "UA" => 29,
        "JO" | "KW" | "MU" => 30,
        "MT" => 31,
        _ => 0,
    }
}

/// ISO 13616: the first four characters moved to the end, letters as 10 to 35, the number modulo 97 is 1.
pub(super) fn iban(number: &str) -> bool {
    let Some((head, rest)) = number.split_at_checked(4) else { return false };
    let mut remainder = 0u32;
    for byte in rest.bytes().chain(head.bytes()) {
        remainder = match byte {
            b'0'..=b'9' => (remainder * 10 + u32::from(byte - b'0')) % 97,
            b'A'..=b'Z' => (remainder * 100 + u32::from(byte - b'A') + 10) % 97,
            _ => return false,
        };
    }
    remainder == 1
}

/// Spain, DNI and NIE: the letter stands for the number modulo 23; X, Y, Z before a NIE count as 0, 1, 2.
pub(super) fn spanish(number: &str) -> bool {
    const LETTERS: &[u8] = b"TRWAGMYFPDXBNJZSQVHLCKE";
    let Some((body, letter)) = number.split_at_checked(8) else { return false };
    let mut value = 0u32;
    for byte in body.bytes() {
        let digit = match byte {
            b'X' | b'Y' | b'Z' => u32::from(byte - b'X'),
            b'0'..=b'9' => u32::from(byte - b'0'),
            _ => return false,
        };
        value = value * 10 + digit;
    }
    letter.len() == 1 && LETTERS.get(value as usize % 23) == letter.as_bytes().first()
}

/// France, NIR: 13 digits (Corsica 2A and 2B count as 19 and 18), and 97 less their remainder modulo 97.
pub(super) fn french(number: &str) -> bool {
    let number = number.replace("2A", "19").replace("2B", "18");
    let (Some(body), Some(key)) = (number.get(..13), number.get(13..15)) else { return false };
    match (body.parse::<u64>(), key.parse::<u64>()) {
        (Ok(body), Ok(key)) => number.len() == 15 && 97 - body % 97 == key,
        _ => false,
    }
}

/// Germany, Steuer-ID: ISO/IEC 7064, MOD 11,10; not beginning with 0; one digit of the first ten comes two or three
/// times.
pub(super) fn german(number: &str) -> bool {
    let Some(digits) = digits(number, 11) else { return false };
    let Some((last, body)) = digits.split_last() else { return false };
    let repeated = (0..10).filter(|digit| body.iter().filter(|other| *other == digit).count() > 1).count();
    let mut product = 10;
    for digit in body {
        let sum = match (digit + product) % 10 {
            0 => 10,
            sum => sum,
        };
        product = sum * 2 % 11;
    }
    !number.starts_with('0') && repeated == 1 && (11 - product) % 10 == *last
}

/// Italy, codice fiscale: characters at odd places by a table, at even places by their value; modulo 26.
pub(super) fn italian(number: &str) -> bool {
    const ODD: [u32; 26] =
        [1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23];
    let mut sum = 0;
    for (place, byte) in number.bytes().take(15).enumerate() {
        let value = match byte {
            b'0'..=b'9' => byte - b'0',
            b'A'..=b'Z' => byte - b'A',
            _ => return false,
        };
        sum += if place % 2 == 0 {
            ODD.get(usize::from(value)).copied().unwrap_or_default()
        } else {
            u32::from(value)
        };
    }
    number.len() == 16
        && number.bytes().last().is_some_and(|last| u32::from(last) == u32::from(b'A') + sum % 26)
}

/// Brazil, CPF: two check digits modulo 11.
pub(super) fn brazilian(number: &str) -> bool {
    let Some(digits) = digits(number, 11) else { return false };
    [9usize, 10].into_iter().all(|count| {
        let weights = (2..=count as u32 + 1).rev();
        let body = digits.get(..count).unwrap_or_default();
        Some(&(weighted(body, weights) * 10 % 11 % 10)) == digits.get(count)
    })
}

/// Poland, PESEL: weights 1, 3, 7, 9; and the month says the century, the day exists.
pub(super) fn polish(number: &str) -> bool {
    let Some(digits) = digits(number, 11) else { return false };
    let pair = |at: usize| number.get(at..at + 2).and_then(|pair| pair.parse::<u32>().ok()).unwrap_or(99);
    let born = (1..=12).contains(&(pair(2) % 20)) && (1..=31).contains(&pair(4));
    born && weighted(&digits, [1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1]).is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers that the issuers, or the rules' descriptions, give as examples.
    #[test]
    fn published_examples_pass_and_each_change_of_a_digit_fails() {
        type Check = fn(&str) -> bool;
        let table: [(Check, &[&str]); 8] = [
            (luhn, &["4111111111111111", "5500005555555559", "378282246310005"]),
            (iban, &["DE89370400440532013000", "GB29NWBK60161331926819", "FR1420041010050500013M02606"]),
            (spanish, &["12345678Z", "X1234567L"]),
            (french, &["255081416802538", "269054958815780"]),
            (german, &["86095742719", "47036892816"]),
            (italian, &["RSSMRA85T10A562S"]),
            (brazilian, &["11144477735", "52998224725"]),
            (polish, &["44051401359", "02070803628"]),
        ];
        for (check, numbers) in table {
            for number in numbers {
                assert!(check(number), "{number}");
                let at = number.len() - 2;
                for other in b'0'..=b'9' {
                    let mut changed = number.as_bytes().to_vec();
                    if changed[at].is_ascii_digit() && changed[at] != other {
                        changed[at] = other;
                        let changed = String::from_utf8(changed).unwrap();
                        // One digit of a PESEL weighs three: all changes are seen there, too.
                        assert!(!check(&changed), "{changed}");
                    }
                }
            }
        }
    }

    #[test]
    fn other_text_fails() {
        for text in ["", "1", "é", "00000000000", "11111111111", "ÄÖÜ45678Z", "AAAAAAAAAAAAAAAA"] {
            for check in [spanish, french, german, italian, brazilian, polish] {
                assert!(!check(text), "{text}");
            }
        }
    }
}
