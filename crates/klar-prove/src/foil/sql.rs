//! As much of a database as it takes to be fooled: a WHERE clause over two columns, evaluated as text.

/// What an expression comes to.
#[derive(Debug, Clone, PartialEq, PartialOrd)]
pub enum Value {
    Null,
    Yes(bool),
    Number(f64),
    Text(String),
}

/// What a query gave: whether the row is found, rows that a UNION added, and how long it was told to sleep.
#[derive(Debug, Default, PartialEq)]
pub struct Outcome {
    pub found: bool,
    pub added: Vec<Vec<Value>>,
    pub sleeps: f64,
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Word(String),
    Number(f64),
    Text(String),
    Sign(char),
    Join,
}

/// Evaluates a WHERE clause for one row, as a database would that was handed it as text.
///
/// # Errors
/// What PostgreSQL says where it does not understand.
pub fn evaluate(clause: &str, id: i64, name: &str) -> Result<Outcome, String> {
    let tokens = tokens(clause)?;
    let mut reader = Reader { tokens: &tokens, at: 0, id, name, sleeps: 0.0, deep: 0 };
    let found = reader.either()? == Value::Yes(true);
    let mut added = Vec::new();
    while reader.word("UNION") {
        reader.word("ALL");
        added.push(reader.select()?);
    }
    match reader.tokens.get(reader.at) {
        None => Ok(Outcome { found, added, sleeps: reader.sleeps }),
        Some(token) => Err(wrong(token)),
    }
}

fn wrong(token: &Token) -> String {
    let near = match token {
        Token::Word(text) | Token::Text(text) => text.clone(),
        Token::Number(number) => number.to_string(),
        Token::Sign(sign) => sign.to_string(),
        Token::Join => "||".to_owned(),
    };
    format!("ERROR: syntax error at or near \"{near}\"")
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\n' | '\t' => {}
            '-' if chars.peek() == Some(&'-') => break,
            '|' if chars.next_if_eq(&'|').is_some() => tokens.push(Token::Join),
            '\'' => {
                let mut string = String::new();
                loop {
                    match chars.next() {
                        None => {
                            return Err(format!(
                                "ERROR: unterminated quoted string at or near \"'{string}\""
                            ));
                        }
                        Some('\'') if chars.next_if_eq(&'\'').is_some() => string.push('\''),
                        Some('\'') => break,
                        Some(c) => string.push(c),
                    }
                }
                tokens.push(Token::Text(string));
            }
            '0'..='9' => {
                let mut number = c.to_string();
                while let Some(c) = chars.next_if(|c| c.is_ascii_digit() || *c == '.') {
                    number.push(c);
                }
                let number =
                    number.parse().map_err(|_| format!("ERROR: syntax error at or near \"{number}\""))?;
                tokens.push(Token::Number(number));
            }
            c if c.is_alphabetic() || c == '_' => {
                let mut word = c.to_string();
                while let Some(c) = chars.next_if(|c| c.is_alphanumeric() || *c == '_') {
                    word.push(c);
                }
                tokens.push(Token::Word(word));
            }
            c => tokens.push(Token::Sign(c)),
        }
    }
    Ok(tokens)
}

struct Reader<'a> {
    tokens: &'a [Token],
    at: usize,
    id: i64,
    name: &'a str,
    sleeps: f64,
    deep: usize,
}

impl Reader<'_> {
    fn word(&mut self, word: &str) -> bool {
        let there =
            matches!(self.tokens.get(self.at), Some(Token::Word(each)) if each.eq_ignore_ascii_case(word));
        self.at += usize::from(there);
        there
    }

    fn sign(&mut self, sign: char) -> bool {
        let there = self.tokens.get(self.at) == Some(&Token::Sign(sign));
        self.at += usize::from(there);
        there
    }

    fn expect(&mut self, sign: char) -> Result<(), String> {
        if self.sign(sign) {
            return Ok(());
        }
        Err(self.tokens.get(self.at).map_or_else(|| "ERROR: syntax error at end of input".to_owned(), wrong))
    }

    fn either(&mut self) -> Result<Value, String> {
        let mut left = self.both()?;
        while self.word("OR") {
            let right = self.both()?;
            left = Value::Yes(left == Value::Yes(true) || right == Value::Yes(true));
        }
        Ok(left)
    }

    fn both(&mut self) -> Result<Value, String> {
        let mut left = self.compared()?;
        while self.word("AND") {
            let right = self.compared()?;
            left = Value::Yes(left == Value::Yes(true) && right == Value::Yes(true));
        }
        Ok(left)
    }

    fn compared(&mut self) -> Result<Value, String> {
        let left = self.joined()?;
        if self.word("BETWEEN") {
            let low = self.joined()?;
            if !self.word("AND") {
                return Err("ERROR: syntax error at end of input".to_owned());
            }
            let high = self.joined()?;
            return Ok(Value::Yes(low <= left && left <= high));
        }
        if self.word("LIKE") {
            let (Value::Text(text), Value::Text(pattern)) = (&left, self.joined()?) else {
                return Ok(Value::Yes(false));
            };
            return Ok(Value::Yes(like(text, &pattern)));
        }
        for sign in ['=', '<', '>'] {
            if self.sign(sign) {
                let right = self.joined()?;
                return Ok(Value::Yes(match sign {
                    '=' => left == right,
                    '<' => left < right,
                    _ => left > right,
                }));
            }
        }
        Ok(left)
    }

    fn joined(&mut self) -> Result<Value, String> {
        let mut left = self.single()?;
        loop {
            if self.tokens.get(self.at) == Some(&Token::Join) {
                self.at += 1;
                left = Value::Text(text(&left) + &text(&self.single()?));
            } else if self.sign('+') {
                left = match (left, self.single()?) {
                    (Value::Number(a), Value::Number(b)) => Value::Number(a + b),
                    _ => return Err("ERROR: operator does not exist: text + unknown".to_owned()),
                };
            } else {
                return Ok(left);
            }
        }
    }

    fn single(&mut self) -> Result<Value, String> {
        self.deep += 1;
        if self.deep > 500 {
            return Err("ERROR: stack depth limit exceeded".to_owned());
        }
        let Some(token) = self.tokens.get(self.at) else {
            return Err("ERROR: syntax error at end of input".to_owned());
        };
        self.at += 1;
        match token {
            Token::Number(number) => Ok(Value::Number(*number)),
            Token::Text(text) => Ok(Value::Text(text.clone())),
            Token::Sign('-') => match self.single()? {
                Value::Number(number) => Ok(Value::Number(-number)),
                _ => Err("ERROR: operator does not exist: - text".to_owned()),
            },
            Token::Sign('(') => {
                let value = if matches!(self.tokens.get(self.at), Some(Token::Word(word)) if word.eq_ignore_ascii_case("SELECT"))
                {
                    self.select()?.into_iter().next().unwrap_or(Value::Null)
                } else {
                    self.either()?
                };
                self.expect(')')?;
                Ok(value)
            }
            Token::Word(word) => match word.to_ascii_lowercase().as_str() {
                "null" => Ok(Value::Null),
                "id" => Ok(Value::Number(self.id as f64)),
                "name" => Ok(Value::Text(self.name.to_owned())),
                "pg_sleep" => {
                    self.expect('(')?;
                    let time = self.joined()?;
                    self.expect(')')?;
                    if let Value::Number(time) = time {
                        self.sleeps += time;
                    }
                    Ok(Value::Text(String::new()))
                }
                other => Err(format!("ERROR: column \"{other}\" does not exist")),
            },
            token => Err(wrong(token)),
        }
    }

    fn select(&mut self) -> Result<Vec<Value>, String> {
        if !self.word("SELECT") {
            return Err("ERROR: syntax error at end of input".to_owned());
        }
        let mut columns = vec![self.joined()?];
        while self.sign(',') {
            columns.push(self.joined()?);
        }
        if self.word("FROM") {
            self.single()?;
        }
        Ok(columns)
    }
}

/// A value as text.
pub fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Yes(yes) => yes.to_string(),
        Value::Number(number) => number.to_string(),
        Value::Text(text) => text.clone(),
    }
}

/// `%` at the ends only: more the foil does not ask for.
fn like(text: &str, pattern: &str) -> bool {
    let inner = pattern.trim_matches('%');
    match (pattern.starts_with('%'), pattern.ends_with('%')) {
        (true, true) => text.contains(inner),
        (true, false) => text.ends_with(inner),
        (false, true) => text.starts_with(inner),
        (false, false) => text == inner,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clauses() {
        let found = |clause: &str| evaluate(clause, 3, "red lamp").map(|outcome| outcome.found);
        assert_eq!(found("id = 3"), Ok(true));
        assert_eq!(found("id = 3 AND 5 BETWEEN 6 AND 7"), Ok(false));
        assert_eq!(found("name LIKE '%zz' OR 6 BETWEEN 5 AND 7 AND '1' LIKE '1%'"), Ok(true));
        assert_eq!(found("name LIKE '%red%'-- '"), Ok(true));
        assert!(
            found("name LIKE '%it's%'").is_err() && found("id = ").is_err() && found("id = klar").is_err()
        );
        let outcome =
            evaluate("name LIKE '%' || (SELECT '' FROM pg_sleep(1.5)) || '%'", 3, "red lamp").unwrap();
        assert!((outcome.sleeps - 1.5).abs() < 1e-9 && outcome.found);
        let outcome = evaluate("id = 9 UNION SELECT NULL, 'a'||'b'", 3, "x").unwrap();
        assert_eq!(outcome.added, [[Value::Null, Value::Text("ab".into())]]);
    }
}
