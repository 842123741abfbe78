//! What is said of changes holds for values made of the pieces that decodings look for.

use klar_fuzz::Fuzz;

#[test]
fn values_of_escapes_are_decoded_as_said() {
    Fuzz {
        name: "transformations",
        seeds: &[
            b"%u0041%41+%4",
            b"&#65;&lt;&#x41&amp",
            b"\\u0041\\x41\\101\\ff21 \\n",
            b"/a/../b//./c\\..\\d",
            b"a/*b*/c<!--d-->e--f#g",
            b"UVVKRA== QUJD\r\n9=",
            b"0x4142 C^md /c \"x\"",
            b"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\xed\xa0\x80\xf5\0",
        ],
        words: &[
            b"%u",
            b"%",
            b"&#x",
            b"&#",
            b"&nbsp",
            b";",
            b"\\u",
            b"\\",
            b"\\ff",
            b"ff21",
            b"/*",
            b"*/",
            b"<!--",
            b"-->",
            b"--",
            b"#",
            b"../",
            b"./",
            b"//",
            b"\\\\",
            b"0x",
            b"41",
            b"=",
            b"\r\n",
            b"\0",
            b"\xc2\xa0",
            b"\xf4\x8f",
            b"\x80",
            b" ",
            b"9",
        ],
        longest: 200,
    }
    .run(super::tests::check);
}
