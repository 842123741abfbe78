use proptest::prelude::*;

use super::*;

fn smaller(path: &str, text: &str) -> Option<String> {
    match minify(path, text, false) {
        Minified::Smaller(out) => Some(out),
        _ => None,
    }
}

#[test]
fn style_sheets() {
    for (text, wanted) in [
        ("a {\n  color : red ;\n  margin: 0 auto;\n}\n", "a{color :red;margin:0 auto}"),
        ("/* a */\n.a .b > c , d:hover {}\n", ".a .b > c,d:hover{}"),
        (".a /* x */ .b{}", ".a .b{}"),
        (".a/* x */.b{}", ".a/**/.b{}"),
        ("a{margin:0/* x */auto}", "a{margin:0/**/auto}"),
        ("/*! licence */ a { b : c }", "/*! licence */ a{b :c}"),
        (
            "@media screen and (min-width: 1px) {\n a { b: c; }\n}",
            "@media screen and (min-width: 1px){a{b:c}}",
        ),
        ("a { width: calc( 1px  +  2px ) }", "a{width:calc( 1px + 2px )}"),
        ("a::before { content: \"  /* no */  { \" ; }", "a::before{content:\"  /* no */  { \"}"),
        ("a { background: url( x  y;.png ) ; }", "a{background:url( x  y;.png )}"),
        ("a { background: url(\"a b\") , url( 'c' ) ; }", "a{background:url(\"a b\"),url( 'c' )}"),
        (":root { --x:  a ,  b ; --y: { a: b } ; }", ":root{--x:  a ,  b ;--y: { a: b } ;}"),
        (".\\31   a { b: c }", ".\\31  a{b:c}"),
        (".a\\:b  c { d: e }", ".a\\:b c{d:e}"),
        ("a { & :hover { b: c } d: e }", "a{& :hover{b:c}d:e}"),
        (
            "@charset \"utf-8\";\n@import  url(a.css)  screen;",
            "@charset \"utf-8\";@import url(a.css) screen;",
        ),
        ("a{b:c;;d:e;}", "a{b:c;d:e}"),
    ] {
        assert_eq!(smaller("a.css", text).as_deref(), Some(wanted), "{text}");
    }
    for text in ["a {", "a }", "a { b: \"x }", "a { b: (c }", "/* never ends", "a { b: 'x\n' }"] {
        assert!(matches!(minify("a.css", text, false), Minified::Broken(_)), "{text}");
    }
    let mapped = "a {  b: c }\n/*# sourceMappingURL=a.css.map */";
    assert_eq!(minify("a.css", mapped, false), Minified::Same);
}

#[test]
fn pages() {
    for (text, wanted) in [
        ("<p>\n    a   b\n</p>", "<p>\na b\n</p>"),
        ("<b>a</b>   <i>b</i>", "<b>a</b> <i>b</i>"),
        ("a <!-- what is said here --> b  ", "a b "),
        (
            "<pre>\n  a   b</pre>  <TEXTAREA>  c  </TEXTAREA>",
            "<pre>\n  a   b</pre> <TEXTAREA>  c  </TEXTAREA>",
        ),
        ("<script>  a('<!-- x -->')  </script>  x", "<script>  a('<!-- x -->')  </script> x"),
        ("<a title=\"a   >  b\">  c", "<a title=\"a   >  b\"> c"),
        ("<a title='a\"  >'   b>  c", "<a title='a\"  >'   b> c"),
        ("  <!--[if IE]>  <p>  <![endif]-->  ", " <!--[if IE]>  <p>  <![endif]--> "),
        ("  <!---->  a < b  ", " <!----> a < b "),
        ("a\u{a0}  b", "a\u{a0} b"),
    ] {
        assert_eq!(smaller("a.html", text).as_deref(), Some(wanted), "{text}");
    }
    for text in ["<p  ", "<!-- never ends  ", "<script>  never ends"] {
        assert!(matches!(minify("a.html", text, false), Minified::Broken(_)), "{text}");
    }
    for text in [
        "<p style='white-space: pre-wrap'>a   b",
        "<div data-reactroot>a   b</div>",
        "<!--$--><p>a   b</p><!--/$-->",
        "<!--[--><p>a   b</p><!--]-->",
    ] {
        assert_eq!(minify("a.html", text, false), Minified::Same, "{text}");
    }
    assert_eq!(minify("a.html", "<p>a   b", true), Minified::Same);
}

#[test]
fn drawings_and_data() {
    for (path, text, wanted) in [
        (
            "a.svg",
            "<svg  a='x  y'>\n  <!-- c -->\n  <g>\n<path d=\"M 0 0\"  />\n</g>\n</svg>\n",
            "<svg a='x  y'><g><path d=\"M 0 0\"/></g></svg>",
        ),
        ("a.svg", "<svg>\n<title> a  b </title>\n</svg>", "<svg><title> a  b </title></svg>"),
        ("a.json", "{ \"a b\" : [ 1.50 , \"x \\\" y\\\\\" ] }", "{\"a b\":[1.50,\"x \\\" y\\\\\"]}"),
    ] {
        assert_eq!(smaller(path, text).as_deref(), Some(wanted), "{text}");
    }
    for (path, text) in
        [("a.svg", "<svg>  <g></svg>"), ("a.svg", "<svg>  "), ("a.json", "{ a: 1 }"), ("a.json", "// x")]
    {
        assert!(matches!(minify(path, text, false), Minified::Broken(_)), "{text}");
    }
    assert_eq!(minify("a.svg", "<svg>  <text>  a </text></svg>", false), Minified::Same);
    assert_eq!(minify("a.js", "let  a  =  1", false), Minified::Same, "scripts are not touched");
}

#[test]
fn styles_that_show_white_space_are_known() {
    for (text, wanted) in [
        (".a{white-space:pre-wrap}", true),
        (".a{white-space:nowrap}.b{white-space: pre}", true),
        (".a{white-space:nowrap}", false),
        (".a{white-space-collapse:preserve}", true),
        ("a{}", false),
    ] {
        assert_eq!(keeps_spaces(text), wanted, "{text}");
    }
}

/// Everything but white space and comments, which is what has to stay.
fn signs(text: &str) -> String {
    text.chars().filter(|char| !char.is_ascii_whitespace()).collect()
}

proptest! {
    #[test]
    fn nothing_but_white_space_goes(text in "[ab{}:;, \\n\"'()\\\\<>=!-]{0,120}") {
        for path in ["a.html", "a.svg", "a.json"] {
            if let Minified::Smaller(out) = minify(path, &text, false)
                && !text.contains("<!--")
            {
                prop_assert_eq!(signs(&out), signs(&text), "{}", path);
            }
        }
    }

    #[test]
    fn what_was_minified_is_left_as_it_is(text in "[ab{}:;,. \\n\"()/*-]{0,120}") {
        for path in ["a.css", "a.html"] {
            if let Minified::Smaller(out) = minify(path, &text, false) {
                let again = minify(path, &out, false);
                prop_assert!(matches!(again, Minified::Same), "{path}: {out:?} {again:?}");
            }
        }
    }
}
