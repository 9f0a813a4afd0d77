// SPDX-License-Identifier: Apache-2.0

// Package text lays text out for people: tables and fields that fit a terminal,
// lines that are broken between words, ages, sizes, plurals and differences of
// files. All but [Diff] escapes what is not printable.
//
// It knows nothing of nsqueue, writes only to what it is given, and keeps nothing.
package text
