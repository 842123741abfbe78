//! A terminal of one's own for a while: another screen, no cursor, keys one by one. It is given back as it was,
//! however that ends.

use std::io::{self, IsTerminal, Write};

use rustix::termios::{self, LocalModes, OptionalActions, SpecialCodeIndex, Termios};

/// See the [module](self).
#[derive(Debug)]
pub struct Screen {
    before: Termios,
}

/// What Ctrl-C sends while [`Screen`] has the terminal.
pub const CTRL_C: u8 = 3;

/// Whether somebody sits there, looks and can press keys.
pub fn is_there() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// Columns and rows; 80 and 24 where nobody knows.
pub fn size() -> (usize, usize) {
    match termios::tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
        _ => (80, 24),
    }
}

impl Screen {
    /// Takes the terminal.
    ///
    /// # Errors
    /// When it is none.
    pub fn take() -> io::Result<Self> {
        let before = termios::tcgetattr(io::stdin())?;
        let mut keys = before.clone();
        // Ctrl-C comes as a key, so that the way out is always the same.
        keys.local_modes -= LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG | LocalModes::IEXTEN;
        keys.special_codes[SpecialCodeIndex::VMIN] = 1;
        keys.special_codes[SpecialCodeIndex::VTIME] = 0;
        termios::tcsetattr(io::stdin(), OptionalActions::Flush, &keys)?;
        let screen = Self { before };
        // Another screen, no cursor, and what is too long is cut.
        write("\x1b[?1049h\x1b[?25l\x1b[?7l")?;
        Ok(screen)
    }

    /// Shows these lines, and nothing else.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn show(&self, lines: &[String]) -> io::Result<()> {
        let plain = anstream::stdout().current_choice() == anstream::ColorChoice::Never;
        let mut text = String::from("\x1b[H");
        for (place, line) in lines.iter().enumerate() {
            if place > 0 {
                text.push_str("\r\n");
            }
            // Cleared before it is written: after the last column the cursor still stands on it. With the last line
            // goes all below it.
            text.push_str(if place + 1 == lines.len() { "\x1b[J" } else { "\x1b[2K" });
            if plain {
                text.push_str(&anstream::adapter::strip_str(line).to_string());
            } else {
                text.push_str(line);
            }
        }
        write(&text)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Whoever has hung up has no use for it any more.
        let _ = write("\x1b[?7h\x1b[?25h\x1b[?1049l");
        let _ = termios::tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}

fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}
