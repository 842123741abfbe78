use super::super::xml::Reader;
use super::*;

/// A quarter of a megabyte of a piece.
fn much(piece: &[u8]) -> Vec<u8> {
    much_of(piece, 1 << 18)
}

fn read(body: &[u8]) -> (String, String) {
    let (mut reader, mut pairs) = (Reader::default(), Pairs::default());
    let outcome = reader.read(body, &LIMITS, &mut pairs);
    (shown(&pairs), told(outcome))
}

#[test]
fn text_and_attributes_are_found() {
    for (body, wanted) in [
        (&b"<a/>"[..], "/*="),
        (b"<a>x<b>y</b> z</a>", "/*=xy z"),
        (
            b"<?xml version=\"1.0\" encoding='UTF-8'?>\n<!-- c -->\n<a x='1'><b y=\"2\">t</b></a>\n",
            "//@*=1|//@*=2|/*=t",
        ),
        (b"<a x = '1'\ny='>'>&lt;&#65;&#x42;&amp;&quot;&apos;&gt;</a >", "//@*=1|//@*=>|/*=<AB&\\\"\\'>"),
        (b"<a><![CDATA[<b>&lt;]]]]><![CDATA[>]]></a>", "/*=<b>&lt;]]>"),
        (b"<a>x<!-- y --><?p z?>w</a>", "/*=xw"),
        (b"<a xmlns='u' xmlns:p='v' p:q='&#x20AC;&lt;'/>", "//@*=\\xe2\\x82\\xac<|/*="),
        (b"<a x='a\r\n\tb&#10;'>c\r\nd\re</a>", "//@*=a  b\\n|/*=c\\nd\\ne"),
        (b"\xef\xbb\xbf<a>\xc3\xa9</a>", "/*=\\xc3\\xa9"),
        (b"<?xml version='1.0' encoding='ISO-8859-15'?><a>\xff</a>", "/*=\\xff"),
        (b"<!DOCTYPE a PUBLIC \"-//X//>\" 'u'><a>t</a>", "/*=t"),
        (b"<!DOCTYPE a [<!ELEMENT a ANY><!-- ]> --><?p ]> ?><!ATTLIST a x CDATA ']>'>]><a>t</a>", "/*=t"),
        (b"<_\xc3\xa9-1.2:b/>", "/*="),
    ] {
        assert_eq!(read(body), (wanted.to_owned(), "complete".to_owned()), "{}", body.escape_ascii());
    }
}

#[test]
fn what_stands_before_a_mistake_is_read() {
    for (body, wanted, outcome) in [
        (&b""[..], "", "XML: ends too early at 0"),
        (b" \n", "", "XML: ends too early at 2"),
        (b"<a>t", "/*=t", "XML: ends too early at 4"),
        (b"<a>t</b>u", "/*=t", "XML: end tag does not match at 4"),
        (b"</a>", "", "XML: end tag does not match at 0"),
        (b"<a x='un", "//@*=un|/*=", "XML: ends too early at 8"),
        (b"<a><![CDATA[un", "/*=un", "XML: ends too early at 14"),
        (b"<a><!-- un", "/*=", "XML: ends too early at 10"),
        (b"<a/>t", "/*=", "XML: text outside of the root element at 4"),
        (b"t<a/>", "", "XML: text outside of the root element at 0"),
        (b"<a/>&lt;", "/*=", "XML: text outside of the root element at 4"),
        (b"<a/><b/>", "/*=", "XML: several root elements at 4"),
        (b"<a x='1' x='2'/>", "//@*=1|//@*=2|/*=", "XML: duplicate attribute at 9"),
        (b"<a x='1'y='2'/>", "//@*=1|/*=", "XML: unexpected character at 8"),
        (b"<a x=1/>", "/*=", "XML: unexpected character at 5"),
        (b"<a x/>", "/*=", "XML: unexpected character at 4"),
        (b"<a x='<'/>", "//@*=|/*=", "XML: markup where it cannot stand at 6"),
        (b"< a/>", "", "XML: unexpected character at 1"),
        (b"<a>x]]>y</a>", "/*=x", "XML: markup where it cannot stand at 4"),
        (b"<!-- a--b --><a/>", "", "XML: markup where it cannot stand at 0"),
        (b"<!-- a ---><a/>", "", "XML: markup where it cannot stand at 0"),
        (b"<a>x\x01y</a>", "/*=x", "XML: control character at 4"),
        (b"<a x='x\0'/>", "//@*=x|/*=", "XML: control character at 7"),
        (b"<a>&x;u</a>", "/*=&x;u", "XML: unknown entity at 3"),
        (b"<a>& &#0;&#xD800;&#x110000;&#;</a>", "/*=& &#0;&#xD800;&#x110000;&#;", "XML: unknown entity at 3"),
        (b"<a>&#1;</a>", "/*=&#1;", "XML: invalid character reference at 3"),
        (b"<a x='&y;'>t</a>", "//@*=&y;|/*=t", "XML: unknown entity at 6"),
        (b"<a>\xff</a>", "/*=\\xff", "XML: invalid UTF-8 at 3"),
        (b"<a>\xc3", "/*=\\xc3", "XML: ends too early at 4"),
        (b"<a/><!DOCTYPE a>", "/*=", "XML: misplaced document type at 4"),
        (b"<a/><?xml version='1.0'?>", "/*=", "XML: unexpected character at 4"),
        (b"\xff\xfe<\0a\0/\0>\0", "", "XML: unsupported encoding at 0"),
        (b"<?xml version='1.0' encoding='UTF-7'?><a/>", "", "XML: unsupported encoding at 0"),
        (b"<![CDATA[x]]>", "", "XML: unexpected character at 0"),
        (
            b"<!DOCTYPE a [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><a>&x;</a>",
            "/*=|/*=file:///etc/passwd|/*=&x;",
            "XML: entities are declared at 0",
        ),
        (
            b"<!DOCTYPE a [<!ENTITY % p \"y\">%p;]><a>t</a>",
            "/*=|/*=y|/*=t",
            "XML: entities are declared at 0",
        ),
        (b"<!DOCTYPE a [", "", "XML: ends too early at 13"),
    ] {
        assert_eq!(read(body), (wanted.to_owned(), outcome.to_owned()), "{}", body.escape_ascii());
    }
}

#[test]
fn bodies_that_mean_harm_end_soon() {
    let (mut reader, mut pairs) = (Reader::default(), Pairs::default());
    let inside = |piece: &[u8]| [b"<a>".to_vec(), much(piece)].concat();
    for (body, outcome) in [
        (much(b"<a>"), "too deeply nested"),
        (inside(b"<"), "XML: unexpected character at 4"),
        (inside(b"&"), "XML: unknown entity at 3"),
        (inside(b"&#"), "XML: invalid character reference at 3"),
        (inside(b"]"), "XML: ends too early at 262147"),
        (inside(b"\r"), "XML: ends too early at 262147"),
        (inside(b"<!---->"), "XML: ends too early at 262147"),
        (inside(b"<a x=''/>"), "XML: ends too early at 262147"),
        ([b"<a ".to_vec(), much(b"a='' ")].concat(), "XML: duplicate attribute at 8"),
        (much(b"<!-- "), "XML: ends too early at 262144"),
        ([b"<!DOCTYPE a [".to_vec(), much(b"<!ENTITY a '&b;&b;'>")].concat(), "too many arguments"),
    ] {
        pairs.clear();
        let limits = Limits { arguments: 10_000, ..LIMITS };
        let limits = if outcome.starts_with("XML") { LIMITS } else { limits };
        assert_eq!(told(soon("XML", || reader.read(&body, &limits, &mut pairs))), outcome);
    }
    // Names that differ only at their ends, in one element.
    let mut body = b"<a".to_vec();
    for at in 0..1000 {
        body.extend_from_slice(format!(" {}{at}=''", "x".repeat(1000)).as_bytes());
    }
    pairs.clear();
    assert!(told(reader.read(&body, &LIMITS, &mut pairs)).starts_with("XML: too many attributes"));
}
