//! The search for the known name that is nearest to a mistyped name, for "did you mean".

/// Returns the candidate nearest to `name`, if it is near enough that the user may have meant it.
pub(crate) fn nearest<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    // Names of one or two letters match nothing, since a single slip can turn any such name into any other.
    let tolerated = match name.chars().count() {
        0..3 => return None,
        length => length / 3,
    };
    candidates
        .into_iter()
        .map(|candidate| (distance(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= tolerated)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Returns the edit distance of two words (Damerau–Levenshtein: a swap of two neighbours counts as one edit).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    for (j, cell) in rows[0].iter_mut().enumerate() {
        *cell = j;
    }
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let replace = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replace.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = least;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_name_finds_the_right_one() {
        let keys = ["priority", "timeout", "after", "take"];
        assert_eq!(nearest("prioirty", keys), Some("priority"));
        assert_eq!(nearest("timeot", keys), Some("timeout"));
        assert_eq!(nearest("afer", keys), Some("after"));
    }

    #[test]
    fn a_name_that_resembles_none_finds_none() {
        assert_eq!(nearest("colour", ["priority", "timeout", "take"]), None);
        assert_eq!(nearest("", ["take"]), None);
    }
}
