//! Check digits of cards and of people. The expression of the rule finds candidates; these say which are real.

/// At most so many digits of a candidate are looked at by the fixed formats.
const DIGITS_MAX: usize = 11;

/// The digits of a text, with everything else left out, and how many there are; as many as there is room for.
fn digits(text: &[u8]) -> ([u32; DIGITS_MAX], usize) {
    let (mut digits, mut count) = ([0; DIGITS_MAX], 0);
    for byte in text.iter().filter(|byte| byte.is_ascii_digit()) {
        if let Some(digit) = digits.get_mut(count) {
            *digit = u32::from(byte - b'0');
        }
        count += 1;
    }
    (digits, count)
}

/// Whether all digits are the same, or each is one more than the one before it, and the first not above `first_max`.
fn is_made_up(digits: &[u32], first_max: u32) -> bool {
    let is_run = |step: u32| digits.windows(2).all(|pair| (pair[0] + step) % 10 == pair[1]);
    is_run(0) || (digits[0] <= first_max && is_run(1))
}

/// `@verifyCC`: whether the digits of a candidate pass the check of card numbers (Luhn, ISO/IEC 7812-1, annex B).
#[must_use]
pub fn verify_cc(candidate: &[u8]) -> bool {
    let (mut sum, mut count) = (0_usize, 0_usize);
    for byte in candidate.iter().rev().filter(|byte| byte.is_ascii_digit()) {
        let digit = usize::from(byte - b'0');
        let doubled = if digit < 5 { digit * 2 } else { digit * 2 - 9 };
        sum += if count % 2 == 0 { digit } else { doubled };
        count += 1;
    }
    count > 0 && sum % 10 == 0
}

/// `@verifySSN`: whether a candidate can be a social security number of the United States: nine digits, no group of
/// zeros, an area that is in use, not all the same and not in sequence.
#[must_use]
pub fn verify_ssn(candidate: &[u8]) -> bool {
    let (digits, count) = digits(candidate);
    let Some(digits) = digits.get(..9).filter(|_| count == 9) else { return false };
    let number = |digits: &[u32]| digits.iter().fold(0, |number, digit| number * 10 + digit);
    let (area, group, serial) = (number(&digits[..3]), number(&digits[3..5]), number(&digits[5..]));
    let is_run = |step: u32| digits.windows(2).all(|pair| pair[0] + step == pair[1]);
    area != 0 && group != 0 && serial != 0 && area < 740 && area != 666 && !is_run(0) && !is_run(1)
}

/// `@verifyCPF`: whether a candidate can be a taxpayer's number of Brazil: eleven digits, the last two of which check
/// the others, neither all the same nor in sequence. Digits behind the eleventh do not matter.
#[must_use]
pub fn verify_cpf(candidate: &[u8]) -> bool {
    let (digits, count) = digits(candidate);
    if count < 11 || is_made_up(&digits, 0) {
        return false;
    }
    let check = |digits: &[u32]| {
        let sum: u32 = digits.iter().rev().zip(2..).map(|(digit, weight)| digit * weight).sum();
        if sum % 11 < 2 { 0 } else { 11 - sum % 11 }
    };
    digits[9] == check(&digits[..9]) && digits[10] == check(&digits[..10])
}

/// `@verifySVNR`: whether a candidate can be a social insurance number of Austria: ten digits, the fourth of which
/// checks the others, neither all the same nor in sequence. Digits behind the tenth do not matter.
#[must_use]
pub fn verify_svnr(candidate: &[u8]) -> bool {
    const WEIGHTS: [u32; 10] = [3, 7, 9, 0, 5, 8, 4, 2, 1, 6];
    let (digits, count) = digits(candidate);
    if count < 10 || is_made_up(&digits[..10], 1) {
        return false;
    }
    let sum: u32 = digits.iter().zip(WEIGHTS).map(|(digit, weight)| digit * weight).sum();
    // A remainder of ten is never given out, and is taken for zero.
    digits[3] == sum % 11 % 10
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_digits() {
        for (verify, candidate, is_real) in [
            (verify_cc as fn(&[u8]) -> bool, "4111 1111 1111 1111", true),
            (verify_cc, "4111-1111-1111-1112", false),
            (verify_cc, "378282246310005", true),
            (verify_cc, "no digits", false),
            (verify_ssn, "078-05-1120", true),
            (verify_ssn, "666-05-1120", false),
            (verify_ssn, "000-05-1120", false),
            (verify_ssn, "078-00-1120", false),
            (verify_ssn, "740-05-1120", false),
            (verify_ssn, "123456789", false),
            (verify_ssn, "111111111", false),
            (verify_ssn, "0780511201", false),
            (verify_cpf, "529.982.247-25", true),
            (verify_cpf, "529.982.247-26", false),
            (verify_cpf, "11111111111", false),
            (verify_cpf, "01234567890", false),
            (verify_cpf, "5299822472", false),
            (verify_svnr, "1237 010180", true),
            (verify_svnr, "1238 010180", false),
            (verify_svnr, "0000000000", false),
        ] {
            assert_eq!(verify(candidate.as_bytes()), is_real, "{candidate}");
        }
    }
}
