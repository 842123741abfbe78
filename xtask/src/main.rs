//! What the repository can do: `cargo xtask demo`, `test`, `soak`, `reloads`, `rush`, `scores`, `faults`, `foreign`, `honest` and `sqlmap`.

mod demo;
mod faults;
mod foreign;
mod honest;
mod install;
#[cfg(test)]
mod layers;
mod load;
mod reloads;
mod rush;
mod scores;
mod shell;
mod shop;
mod soak;
mod sqlmap;
mod test;
mod tour;
mod world;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Sets up, runs and tests klar.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask", max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Set up and run the demo: a licence shop with PostgreSQL and Redis behind klar
    #[command(
        after_help = "Examples:\n  cargo xtask demo            set up, start, print the address; Ctrl-C stops it\n  cargo xtask demo --once     the whole tour, unattended: kills, deploys, rollbacks under load"
    )]
    Demo {
        /// Do the whole tour unattended, then exit
        #[arg(long)]
        once: bool,
    },
    /// The one test command: formatting, lints, tests, doc tests, the demo app's tests, the tour
    #[command(
        after_help = "Examples:\n  cargo xtask test\n  cargo xtask test --fast     without the demo app's own tests and the tour"
    )]
    Test {
        /// Leave out what needs the demo app: its own tests, the browser, the faulty twin, the tour
        #[arg(long)]
        fast: bool,
    },
    /// Shoot at klar for as long as it takes, and write what happened into bench/FAULTS.md
    #[command(
        after_help = "Examples:\n  cargo xtask soak\n  cargo xtask soak --kills 20 --seed 7 --dry-run    a short one; the report is only printed"
    )]
    Soak {
        /// How many processes to kill
        #[arg(long, default_value_t = 100)]
        kills: u32,
        /// Where the random numbers start
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Print the report, write nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Change settings and upgrade klar itself, over and over under load: no request fails, no WebSocket is cut
    #[command(
        after_help = "Examples:\n  cargo xtask reloads\n  cargo xtask reloads --requests 20000 --reloads 10 --upgrades 3 --dry-run    a short one"
    )]
    Reloads {
        /// How many requests there are at least
        #[arg(long, default_value_t = 1_000_000)]
        requests: u64,
        /// How often settings change
        #[arg(long, default_value_t = 200)]
        reloads: u32,
        /// How often klar is upgraded
        #[arg(long, default_value_t = 20)]
        upgrades: u32,
        /// Take a klar that is not optimised
        #[arg(long)]
        debug: bool,
        /// Only print what happened
        #[arg(long)]
        dry_run: bool,
    },
    /// Check the faulty twin alone, the twin behind klar, and the demo app behind klar: three scores side by side
    #[command(after_help = "Examples:\n  cargo xtask scores")]
    Scores,
    /// Run the demo app's own tests: in Node, in Chromium, against its faulty twin, and by a fuzzer
    #[command(after_help = "Examples:\n  cargo xtask shop")]
    Shop,
    /// Plant faults in copies of the demo app, and see whether `klar check` finds them
    #[command(
        after_help = "Examples:\n  cargo xtask faults\n  cargo xtask faults 03 12    the groups with these only"
    )]
    Faults {
        /// The numbers of faults, as in `demo/faults`
        numbers: Vec<String>,
    },
    /// Check two apps that are not klar's, straight and behind klar, and compare the reports with those that are kept
    #[command(
        after_help = "Examples:\n  cargo xtask foreign\n  cargo xtask foreign --bless    keep the reports of today in demo/foreign/snapshots"
    )]
    Foreign {
        /// Keep the reports instead of comparing them
        #[arg(long)]
        bless: bool,
    },
    /// Send the demo app honest requests that the Core Rule Set takes for attacks, and let them through one by one
    #[command(after_help = "Examples:\n  cargo xtask honest")]
    Honest,
    /// Let sqlmap look for a way into the faulty twin, past klar and through it
    #[command(after_help = "Examples:\n  cargo xtask sqlmap")]
    Sqlmap,
    /// Let very many buyers buy at once, each with a double click: one order each, none lost
    #[command(after_help = "Examples:\n  cargo xtask rush\n  cargo xtask rush --buyers 100 --seconds 20")]
    Rush {
        /// How many have a session
        #[arg(long, default_value_t = 500)]
        buyers: u32,
        /// How long they buy
        #[arg(long, default_value_t = 60)]
        seconds: u64,
    },
}

fn main() -> Result<()> {
    match Cli::parse().task {
        Task::Demo { once } => demo::demo(once),
        Task::Test { fast } => test::test(fast),
        Task::Faults { numbers } => faults::faults(&numbers),
        Task::Scores => scores::alone(),
        Task::Honest => honest::honest(),
        Task::Sqlmap => sqlmap::sqlmap(),
        Task::Shop => shop::alone(),
        Task::Foreign { bless } => foreign::alone(bless),
        Task::Rush { buyers, seconds } => rush::rush(buyers, seconds),
        Task::Reloads { requests, reloads, upgrades, debug, dry_run } => {
            reloads::reloads(requests, reloads, upgrades, debug, dry_run)
        }
        Task::Soak { kills, seed, dry_run } => soak::soak(kills, seed, dry_run),
    }
}
