#![allow(clippy::unwrap_used)]

use super::*;
use proptest::prelude::*;

const NEWLINE: &[&[u8]] = &[b"\n"];

fn buffer(limit: usize, bytes: &[u8], eof: bool) -> ReadBuffer {
    let mut buffer = ReadBuffer::new(limit);
    buffer.feed(&mut bytes.to_vec());
    if eof {
        buffer.feed_eof();
    }
    buffer
}

fn until(buffer: &mut ReadBuffer, separators: &[&[u8]]) -> Option<Result<Vec<u8>, ReadError>> {
    buffer.read_until(&mut Search::new(separators).unwrap())
}

fn line(buffer: &mut ReadBuffer) -> Option<Result<Vec<u8>, ReadError>> {
    buffer.read_line(&mut Search::new(NEWLINE).unwrap())
}

#[test]
fn reading_waits_for_bytes_or_the_end() {
    let mut buffer = ReadBuffer::new(8);
    assert_eq!(buffer.read(5), None);
    buffer.feed(&mut b"abc".to_vec());
    assert_eq!(buffer.read(2).unwrap(), b"ab");
    assert_eq!(buffer.read(2).unwrap(), b"c");
    assert_eq!(buffer.read(2), None);
    buffer.feed_eof();
    assert_eq!(buffer.read(2).unwrap(), b"");
}

#[test]
fn reading_exactly_tells_what_is_missing() {
    let mut buffer = buffer(8, b"abc", false);
    assert!(buffer.read_exactly(4).is_none());
    assert_eq!(buffer.read_exactly(2).unwrap().unwrap(), b"ab");
    buffer.feed_eof();
    match buffer.read_exactly(4) {
        Some(Err(ReadError::IncompleteRead { partial, expected })) => {
            assert_eq!((partial.as_slice(), expected), (&b"c"[..], Some(4)));
        }
        other => unreachable!("{other:?}"),
    }
    assert!(buffer.is_empty());
}

#[test]
fn what_ends_first_is_found() {
    let mut buffer = buffer(64, b"a-b=c", false);
    assert_eq!(until(&mut buffer, &[b"b=", b"-"]).unwrap().unwrap(), b"a-");
    assert_eq!(
        until(&mut buffer, &[b"=c", b"b=c"]).unwrap().unwrap(),
        b"b=c"
    );
    assert!(until(&mut buffer, &[b"x"]).is_none());
    assert!(Search::new(&[]).is_none() && Search::new(&[b"a", b""]).is_none());
}

#[test]
fn too_much_before_a_separator_stays() {
    let mut found = buffer(4, b"12345\nrest", false);
    assert!(matches!(
        until(&mut found, NEWLINE),
        Some(Err(ReadError::LimitOverrun { consumed: 5 }))
    ));
    assert_eq!(found.read_exactly(6).unwrap().unwrap(), b"12345\n");
    let mut missing = buffer(4, b"123456", false);
    assert!(matches!(
        until(&mut missing, &[b"\r\n"]),
        Some(Err(ReadError::LimitOverrun { consumed: 5 }))
    ));
    assert_eq!(missing.len(), 6);
}

#[test]
fn exactly_the_limit_is_not_too_much() {
    assert_eq!(
        line(&mut buffer(4, b"1234\n", false)).unwrap().unwrap(),
        b"1234\n"
    );
    assert!(line(&mut buffer(4, b"1234", false)).is_none());
}

#[test]
fn a_line_that_is_too_long_is_dropped() {
    let mut whole = buffer(4, b"12345\nnext\n", false);
    assert!(line(&mut whole).unwrap().is_err());
    assert_eq!(line(&mut whole).unwrap().unwrap(), b"next\n");
    let mut part = buffer(4, b"12345", false);
    assert!(line(&mut part).unwrap().is_err());
    assert!(part.is_empty());
}

#[test]
fn the_last_line_may_lack_its_newline() {
    let mut buffer = buffer(64, b"one\ntwo", true);
    assert_eq!(line(&mut buffer).unwrap().unwrap(), b"one\n");
    assert_eq!(line(&mut buffer).unwrap().unwrap(), b"two");
    assert_eq!(line(&mut buffer).unwrap().unwrap(), b"");
}

/// The same by brute force: the shortest prefix that ends with a separator.
fn model(bytes: &[u8], separators: &[&[u8]]) -> Option<usize> {
    (0..=bytes.len()).find(|end| separators.iter().any(|one| bytes[..*end].ends_with(one)))
}

proptest! {
    #[test]
    fn pieces_do_not_matter_to_a_search(
        pieces in prop::collection::vec(prop::collection::vec(0_u8..4, 0..8), 0..12),
        separators in prop::collection::vec(prop::collection::vec(0_u8..4, 1..4), 1..4),
    ) {
        let separators: Vec<&[u8]> = separators.iter().map(Vec::as_slice).collect();
        let bytes = pieces.concat();
        let mut search = Search::new(&separators).unwrap();
        let mut buffer = ReadBuffer::new(usize::MAX);
        let mut found = None;
        for mut piece in pieces {
            buffer.feed(&mut piece);
            found = buffer.read_until(&mut search);
            if found.is_some() {
                break;
            }
        }
        let expected = model(&bytes, &separators).map(|end| bytes[..end].to_vec());
        prop_assert_eq!(found.map(Result::unwrap), expected);
    }

    #[test]
    fn bytes_come_out_as_they_went_in(
        steps in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..40), 0_usize..60), 0..40),
    ) {
        let mut buffer = ReadBuffer::new(16);
        let (mut fed, mut read) = (Vec::new(), Vec::new());
        for (piece, count) in steps {
            fed.extend_from_slice(&piece);
            buffer.feed(&mut piece.clone());
            if let Some(Ok(bytes)) = buffer.read_exactly(count / 2) {
                read.extend(bytes);
            }
            read.extend(buffer.read(count / 3).unwrap_or_default());
            prop_assert_eq!(buffer.len(), fed.len() - read.len());
        }
        buffer.feed_eof();
        read.extend(buffer.read_to_end().unwrap());
        prop_assert_eq!(read, fed);
    }

    #[test]
    fn a_line_is_never_longer_than_the_limit(bytes in prop::collection::vec(0_u8..14, 0..200)) {
        let mut buffer = buffer(10, &bytes, true);
        loop {
            match line(&mut buffer) {
                Some(Ok(line)) if line.is_empty() => break,
                Some(Ok(line)) => prop_assert!(line.len() <= 11),
                Some(Err(ReadError::LimitOverrun { consumed })) => prop_assert!(consumed > 10),
                Some(Err(error)) => prop_assert!(false, "{}", error),
                None => prop_assert!(false, "the end has come"),
            }
        }
    }
}
