//! Programs that know nothing of this one read the same rows.

use std::process::{Command, Stdio};

use super::*;

/// Prints each row as a line, read by one of two others.
const SCRIPT: &str = r#"
import glob, struct, sys
folder, reader = sys.argv[1:]
columns = "ts route body status latency size shift share is_ok span trace attrs".split()
files = sorted(glob.glob(folder + "/signal=mixed/day=*/hour=*/*.parquet"))
if reader == "pyarrow":
    import pyarrow.parquet as parquet
    rows = []
    for file in files:
        table = parquet.ParquetFile(file, page_checksum_verification=True).read()
        micros = table.column("ts").cast("int64").to_pylist()
        rows += zip(micros, *[table.column(name).to_pylist() for name in columns[1:]])
    found = parquet.read_table(files[0], filters=[("status", ">=", 500)], columns=["status"], partitioning=None)
    assert all(status >= 500 for status in found.column(0).to_pylist())
else:
    import duckdb
    given = ", ".join(columns[1:])
    query = f"select epoch_us(ts), {given} from read_parquet(?, hive_partitioning=false)"
    rows = duckdb.sql(query, params=[files]).fetchall()
    counted = duckdb.sql("select count(*) from read_parquet(?, hive_partitioning=true) where day >= '2000-01-01'", params=[files])
    assert counted.fetchall()[0][0] == len(rows)
def text(value):
    if value is None: return "-"
    if isinstance(value, bool): return str(value).lower()
    if isinstance(value, bytes): return value.hex()
    if isinstance(value, float): return struct.pack(">d", value).hex()
    if isinstance(value, dict): value = list(value.items())
    if isinstance(value, list): return ";".join(f"{name}={text}" for name, text in value)
    return str(value)
for row in rows:
    print("|".join(map(text, row)))
"#;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn line(row: &Row) -> String {
    fn or<T>(value: Option<T>, text: impl Fn(T) -> String) -> String {
        value.map_or_else(|| "-".to_owned(), text)
    }
    let attrs = |attrs: &Vec<(String, String)>| {
        attrs.iter().map(|(name, text)| format!("{name}={text}")).collect::<Vec<_>>().join(";")
    };
    [
        row.ts.to_string(),
        or(row.route.clone(), |text| text),
        or(row.body.clone(), |text| text),
        row.status.to_string(),
        or(row.latency, |number| number.to_string()),
        row.size.to_string(),
        or(row.shift, |number| number.to_string()),
        or(row.share, |number| hex(&number.to_bits().to_be_bytes())),
        or(row.is_ok, |is_ok| is_ok.to_string()),
        or(row.span, |span| hex(&span)),
        hex(&row.trace),
        or(row.attrs.as_ref(), attrs),
    ]
    .join("|")
}

/// A Python that has the readers: `cargo xtask test` installs one.
fn python() -> Option<String> {
    let python = std::env::var("KLAR_READERS_PYTHON").unwrap_or_else(|_| "python3".into());
    let has_all = Command::new(&python)
        .args(["-c", "import pyarrow.parquet, duckdb"])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    has_all.then_some(python)
}

#[test]
fn other_readers_see_the_same_rows() {
    let Some(python) = python() else {
        println!("skipped: no Python with pyarrow and duckdb; name one in KLAR_READERS_PYTHON");
        return;
    };
    let folder = Folder::new();
    let store = open(&folder);
    // Enough for two row groups in one hour, and for dictionaries of more than 256 and more than 65,536 texts.
    let mut model: Vec<Row> = Vec::new();
    for batch in 0..4_u64 {
        let row = |place: u64| {
            let number = batch * 40_000 + place;
            let mut row = Row::new(START + (number * 20_000) as i64, number);
            if batch > 0 && number.is_multiple_of(2) {
                row.route = Some(format!("/one/{}", number % if batch == 1 { 1000 } else { 160_000 }));
            }
            row
        };
        let rows: Vec<Row> = (0..40_000).map(row).collect();
        append(&store, &rows);
        model.extend(rows);
    }
    // An hour without any value where there may be none, and a row alone.
    let empty = |number| Row {
        route: None,
        body: None,
        latency: None,
        shift: None,
        share: None,
        is_ok: None,
        span: None,
        attrs: None,
        ..Row::new(START + 5 * HOUR + number, 1)
    };
    let rest: Vec<Row> = (0..100).map(empty).chain([Row::new(START + 9 * HOUR, 5)]).collect();
    append(&store, &rest);
    model.extend(rest);
    store.flush_now().unwrap();
    assert_eq!(all(&store), keys(&model));
    let mut wanted: Vec<String> = model.iter().map(line).collect();
    wanted.sort_unstable();
    for reader in ["pyarrow", "duckdb"] {
        let output = Command::new(&python).args(["-c", SCRIPT]).arg(&folder.0).arg(reader).output().unwrap();
        assert!(output.status.success(), "{reader}: {}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        let mut found: Vec<&str> = text.lines().collect();
        found.sort_unstable();
        assert_eq!(found.len(), wanted.len(), "{reader}");
        for (found, wanted) in found.iter().zip(&wanted) {
            assert_eq!(found, wanted, "{reader}");
        }
    }
}
