//! Shell patterns over names: `*` and `?` stop at slashes, as in Go's `path.Match`.

/// Whether `name` fits `pattern`. Takes time proportional to the product of their lengths at most.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut p, mut n) = (0, 0);
    // Where the last star stood, and how far it has been stretched.
    let mut star: Option<(usize, usize)> = None;
    while let Some(&byte) = name.get(n) {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(&sign) if sign == byte || (sign == b'?' && byte != b'/') => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, reached)) if name.get(reached) != Some(&b'/') => {
                    star = Some((at, reached + 1));
                    p = at + 1;
                    n = reached + 1;
                }
                _ => return false,
            },
        }
    }
    pattern.get(p..).unwrap_or_default().iter().all(|sign| *sign == b'*')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::matches;

    #[test]
    fn patterns_fit() {
        for (pattern, name) in [
            ("busybox", "busybox"),
            ("busy*", "busybox:latest"),
            ("*:latest", "busybox:latest"),
            ("*/*", "a/b"),
            ("b?sybox", "busybox"),
            ("*", ""),
            ("a*b*c", "axxbxxc"),
            ("a/*", "a/b:1"),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("busy", "busybox"),
            ("*", "a/b"),
            ("a?b", "a/b"),
            ("a*c", "axxb"),
            ("", "a"),
            ("a*/c", "a/b/c"),
        ] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }

    proptest! {
        #[test]
        fn a_name_fits_itself(name in "[a-z/:.]{0,40}") {
            prop_assert!(matches(&name, &name));
        }

        #[test]
        fn hostile_patterns_end(pattern in "[a*]{0,200}", name in "a{0,200}") {
            let _ = matches(&pattern, &name);
        }
    }
}
