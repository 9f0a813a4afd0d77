// SPDX-License-Identifier: Apache-2.0
//! Drops DNS questions for blocked.example, marks those for marked.example, accepts the rest.
//! It needs no crates: std has no SOCK_SEQPACKET, so it declares what it calls of libc.

use std::{env, thread::sleep, time::Duration};

extern "C" {
    fn socket(domain: i32, kind: i32, protocol: i32) -> i32;
    fn connect(fd: i32, address: *const u8, size: u32) -> i32;
    fn recv(fd: i32, buffer: *mut u8, size: usize, flags: i32) -> isize;
    fn send(fd: i32, buffer: *const u8, size: usize, flags: i32) -> isize;
    fn close(fd: i32) -> i32;
}

const AF_UNIX: u16 = 1;
const SOCK_SEQPACKET: i32 = 5;
const MSG_NOSIGNAL: i32 = 0x4000;
const WELCOME: u16 = 2;
const BATCH: u16 = 5;
const MARK: u32 = 0x0100_0000;

fn u16_at(b: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([b[at], b[at + 1]])
}

/// The name that a packet asks DNS for, in lower case.
fn question(p: &[u8]) -> Option<String> {
    let (protocol, mut at) = match p.first()? >> 4 {
        4 => (*p.get(9)?, usize::from(p[0] & 15) * 4),
        6 => (*p.get(6)?, 40),
        _ => return None,
    };
    if protocol != 17 || p.get(at + 2..at + 4)? != [0, 53] {
        return None;
    }
    let mut labels = Vec::new();
    at += 20;
    while let Some(&n @ 1..=63) = p.get(at) {
        let label = p.get(at + 1..at + 1 + usize::from(n))?;
        labels.push(String::from_utf8_lossy(label).to_ascii_lowercase());
        at += 1 + usize::from(n);
    }
    Some(labels.join("."))
}

fn judge(packet: &[u8]) -> (u8, u32) {
    match question(packet).as_deref() {
        Some("blocked.example") => (2, 0), // drop
        Some("marked.example") => (1, MARK),
        _ => (1, 0),
    }
}

/// The VERDICTS about a BATCH.
fn verdicts(m: &[u8]) -> Vec<u8> {
    let count = usize::from(u16_at(m, 12));
    let mut v = vec![6, 0, 0, 0]; // the type VERDICTS
    v.extend_from_slice(&(16 + 16 * count as u32).to_le_bytes());
    v.extend_from_slice(&m[8..14]); // sequence, count
    v.extend_from_slice(&[0, 0]);
    for i in 0..count {
        let header = &m[24 + 64 * i..];
        let number = |at| u16_at(header, at) as usize | (u16_at(header, at + 2) as usize) << 16;
        let (captured, offset) = (number(8), number(12));
        let (action, mark) = judge(&m[offset..offset + captured]);
        v.extend_from_slice(&header[..4]); // ID
        v.extend_from_slice(&[action, 0, 0, 0]);
        v.extend_from_slice(&[mark.to_le_bytes(), mark.to_le_bytes()].concat());
    }
    v
}

fn main() {
    let path = env::args().nth(1).expect("usage: inspector SOCKET");
    let address = [&AF_UNIX.to_le_bytes()[..], path.as_bytes(), &[0]].concat();
    let mut hello = b"\x01\0\0\0\x2c\0\0\0nsqI\x01\0".to_vec(); // the type HELLO, 44 bytes
    hello.extend_from_slice(&[0; 12]);
    hello.extend_from_slice(b"\x0c\0\0\0\0\0rust example"); // 12 bytes of name
    let mut buffer = vec![0u8; 131072];
    loop {
        // nsqueued may start later, and start again.
        let fd = unsafe { socket(AF_UNIX.into(), SOCK_SEQPACKET, 0) };
        let put = |b: &[u8]| unsafe { send(fd, b.as_ptr(), b.len(), MSG_NOSIGNAL) };
        if unsafe { connect(fd, address.as_ptr(), address.len() as u32) } == 0 {
            put(&hello);
        }
        loop {
            let n = unsafe { recv(fd, buffer.as_mut_ptr(), buffer.len(), 0) };
            match if n > 0 { u16_at(&buffer, 0) } else { 0 } {
                0 => break,
                WELCOME => println!("connected"),
                BATCH => drop(put(&verdicts(&buffer[..n as usize]))),
                _ => (),
            }
        }
        unsafe { close(fd) };
        sleep(Duration::from_millis(100));
    }
}
