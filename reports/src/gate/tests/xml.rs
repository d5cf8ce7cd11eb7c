//! Enough of an XML parser to hold a document against a schema: strict about what it knows, and it
//! knows elements, attributes and text.

/// An element.
#[derive(Debug)]
pub struct Element {
    pub name: String,
    pub attributes: Vec<(String, String)>,
    pub children: Vec<Element>,
    pub text: String,
}

impl Element {
    pub fn get(&self, name: &str) -> &str {
        let found = self.attributes.iter().find(|(key, _)| key == name);
        found.map_or_else(|| panic!("no {name} in {self:?}"), |(_, value)| value)
    }

    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Element> {
        self.children.iter().filter(move |child| child.name == name)
    }
}

/// Parses a document; panics where it is not well-formed.
pub fn parse(text: &str) -> Element {
    let rest = text.strip_prefix("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let (root, rest) = element(rest.expect("a declaration"));
    assert_eq!(rest.trim(), "", "after the root");
    root
}

fn element(text: &str) -> (Element, &str) {
    let text = text.strip_prefix('<').expect("an element");
    let end = text.find([' ', '>']).expect("a name");
    let name = text[..end].to_owned();
    let mut rest = &text[end..];
    let mut attributes: Vec<(String, String)> = Vec::new();
    while let Some(attribute) = rest.strip_prefix(' ') {
        let (key, value) = attribute.split_once("=\"").expect("a quoted value");
        let (value, after) = value.split_once('"').expect("its end");
        assert!(
            attributes.iter().all(|(known, _)| known != key),
            "{key} twice"
        );
        attributes.push((key.to_owned(), unescaped(value)));
        rest = after;
    }
    rest = rest.strip_prefix('>').expect("the end of a tag");
    let (mut children, mut content) = (Vec::new(), String::new());
    loop {
        let next = rest.find('<').expect("an end tag");
        content.push_str(&unescaped(&rest[..next]));
        rest = &rest[next..];
        if let Some(after) = rest.strip_prefix("</") {
            let after = after.strip_prefix(name.as_str()).expect("the same name");
            let rest = after.strip_prefix('>').expect("the end of an end tag");
            let text = content;
            return (
                Element {
                    name,
                    attributes,
                    children,
                    text,
                },
                rest,
            );
        }
        let (child, after) = element(rest);
        children.push(child);
        rest = after;
    }
}

fn unescaped(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        let (name, after) = rest[at + 1..]
            .split_once(';')
            .expect("the end of a reference");
        out.push(match name {
            "amp" => '&',
            "lt" => '<',
            "gt" => '>',
            "quot" => '"',
            number => {
                let number = number.strip_prefix('#').expect("a known entity");
                char::from_u32(number.parse().expect("a number")).expect("a character")
            }
        });
        rest = after;
    }
    assert!(!rest.contains(['<', '>']) && !text.contains('<'), "{text}");
    out + rest
}
