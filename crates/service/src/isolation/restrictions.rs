//! The restrictions in force, in words.

use std::fmt;

/// The restrictions in force, and the missing ones with the reason.
#[derive(Default)]
pub(super) struct Restrictions {
    pub(super) in_force: Vec<String>,
    pub(super) missing: Vec<String>,
}

impl Restrictions {
    /// Adds a restriction by its name, with the detail that `result` has. An empty detail is left out.
    pub(super) fn add(&mut self, name: &str, result: Result<String, String>) {
        match result {
            Ok(detail) if detail.is_empty() => self.in_force.push(name.into()),
            Ok(detail) => self.in_force.push(format!("{name} {detail}")),
            Err(reason) => self.missing.push(format!("no {name} ({reason})")),
        }
    }
}

impl fmt::Display for Restrictions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<&str> = self.in_force.iter().chain(&self.missing).map(String::as_str).collect();
        formatter.write_str(&all.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_restrictions_are_named_last() {
        let mut restrictions = Restrictions::default();
        restrictions.add("landlock", Err("the kernel does not have it".into()));
        restrictions.add("seccomp", Ok(String::new()));
        restrictions.add("memory", Ok("64 MB".into()));
        assert_eq!(restrictions.to_string(), "seccomp, memory 64 MB, no landlock (the kernel does not have it)");
    }
}
