// SPDX-License-Identifier: Apache-2.0

package api

import (
	"errors"
	"fmt"
	"net/http"
)

// Code classifies an [Error]. Codes below 100 are those of the CNI
// specification, so that the plugin can hand them to the runtime unchanged.
type Code uint

// The codes in use.
const (
	CodeUnsupportedField Code = 2
	CodeDecoding         Code = 6
	CodeInvalidConfig    Code = 7
	CodeInvalidNetns     Code = 8
	CodeTryAgainLater    Code = 11
	CodeNotAvailable     Code = 50
	CodeLimited          Code = 51
	// CodeNotAttached: there is no such attachment.
	CodeNotAttached Code = 100
	// CodeNotInspected: the attachment exists, but its hook or its reader is
	// not what it should be.
	CodeNotInspected Code = 101
	// CodeConflict: the attachment exists already with other properties.
	CodeConflict Code = 102
	// CodeNotSupervised: the daemon has no supervisor that could do that.
	CodeNotSupervised Code = 103
	// CodeReadOnly: the call changes something, or is unknown, and came by a
	// socket for observers.
	CodeReadOnly Code = 104
	// CodeRetired: nsqueue leaves the node, and inspects nothing any more.
	CodeRetired  Code = 105
	CodeInternal Code = 999
)

// Error is an error that crosses the socket. Its JSON form is that of the CNI
// specification's error type.
type Error struct {
	Code    Code   `json:"code"`
	Msg     string `json:"msg"`
	Details string `json:"details,omitempty"`
}

// Errorf returns an *Error with the given code.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Msg: fmt.Sprintf(format, args...)}
}

// Error returns the message and, where there are any, the details.
func (e *Error) Error() string {
	if e.Details == "" {
		return e.Msg
	}
	return e.Msg + "; " + e.Details
}

// CodeOf returns the code of the *Error in err's chain, else [CodeInternal].
func CodeOf(err error) Code {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return CodeInternal
}

// asError returns what crosses the socket for err: the *Error itself where
// nothing was added to it, else the whole text with the code of the *Error in
// the chain.
func asError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok && e.Error() == err.Error() {
		return e
	}
	return &Error{Code: CodeOf(err), Msg: err.Error()}
}

// httpStatus maps a code to the status line that carries it. Clients go by the
// code in the body.
func (c Code) httpStatus() int {
	switch c {
	case CodeUnsupportedField, CodeDecoding, CodeInvalidConfig, CodeInvalidNetns:
		return http.StatusBadRequest
	case CodeTryAgainLater, CodeNotAvailable, CodeLimited:
		return http.StatusServiceUnavailable
	case CodeReadOnly:
		return http.StatusForbidden
	case CodeNotAttached:
		return http.StatusNotFound
	case CodeConflict, CodeNotInspected, CodeNotSupervised, CodeRetired:
		return http.StatusConflict
	}
	return http.StatusInternalServerError
}
