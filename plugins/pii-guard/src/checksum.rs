//! The check digits that tell a number from any other row of digits.

/// Whether the digits are a payment card's: 13 to 19, and the last makes the sum of ISO/IEC 7812 come out.
pub fn luhn(text: &str) -> bool {
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(10)).collect();
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| if place % 2 == 0 { *digit } else { digit * 2 / 10 + digit * 2 % 10 })
        .sum();
    (13..=19).contains(&digits.len()) && sum.is_multiple_of(10) && digits.iter().any(|digit| *digit != 0)
}

/// Whether it is an IBAN: 15 to 34 characters whose remainder by 97 is 1, as in ISO 13616.
pub fn iban(text: &str) -> bool {
    let characters: Vec<char> = text.chars().filter(|c| *c != ' ').collect();
    if !(15..=34).contains(&characters.len()) {
        return false;
    }
    let turned = characters.iter().skip(4).chain(characters.iter().take(4));
    let remainder = turned.filter_map(|c| c.to_digit(36)).fold(0_u32, |rest, value| {
        if value < 10 { (rest * 10 + value) % 97 } else { (rest * 100 + value) % 97 }
    });
    remainder == 1
}
