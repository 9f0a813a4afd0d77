// SPDX-License-Identifier: Apache-2.0

package nri

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// Pod is a pod as the runtime knows it.
type Pod struct {
	// ID is the runtime's: the container ID of CNI calls.
	ID, Name, UID, Namespace string
	// Labels are never nil.
	Labels map[string]string
}

// Names of services, and of the methods that matter here.
const (
	runtimeService = "nri.pkg.api.v1alpha1.Runtime"
	pluginService  = "nri.pkg.api.v1alpha1.Plugin"

	registerMethod    = "RegisterPlugin"
	configureMethod   = "Configure"
	synchronizeMethod = "Synchronize"
	shutdownMethod    = "Shutdown"
	runMethod         = "RunPodSandbox"
	removeMethod      = "RemovePodSandbox"
	eventMethod       = "StateChange" // of older runtimes, for both
)

// Events are numbers, and bits where a plugin says which ones it wants.
const (
	runEvent    = 1
	removeEvent = 3
	wanted      = 1<<(runEvent-1) | 1<<(removeEvent-1)
)

// Codes of a call's status.
const (
	codeOK            = 0
	codeInvalid       = 3
	codeUnimplemented = 12
)

// field is one field of a protobuf message: number for varints, text for all that has a
// length.
type field struct {
	number protowire.Number
	kind   protowire.Type
	value  uint64
	text   []byte
}

// eachField calls do for each field, also for those that nothing here knows.
func eachField(b []byte, do func(*field) error) error {
	for len(b) > 0 {
		var f field
		n := 0
		if f.number, f.kind, n = protowire.ConsumeTag(b); n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		switch f.kind {
		case protowire.VarintType:
			f.value, n = protowire.ConsumeVarint(b)
		case protowire.BytesType:
			f.text, n = protowire.ConsumeBytes(b)
		default:
			n = protowire.ConsumeFieldValue(f.number, f.kind, b)
		}
		if n < 0 {
			return protowire.ParseError(n)
		}
		b = b[n:]
		if err := do(&f); err != nil {
			return err
		}
	}
	return nil
}

// texts puts fields that are texts where they belong, by their numbers.
func texts(b []byte, into map[protowire.Number]*string) error {
	return eachField(b, func(f *field) error {
		if to := into[f.number]; to != nil && f.kind == protowire.BytesType {
			*to = string(f.text)
		}
		return nil
	})
}

// call is a request of ttrpc.
type call struct {
	service, method string
	payload         []byte
}

func parseCall(b []byte) (c call, err error) {
	err = eachField(b, func(f *field) error {
		if f.kind != protowire.BytesType {
			return nil
		}
		switch f.number {
		case 1:
			c.service = string(f.text)
		case 2:
			c.method = string(f.text)
		case 3:
			c.payload = f.text
		}
		return nil
	})
	return c, err
}

func (c *call) encode() []byte {
	b := appendText(nil, 1, c.service)
	b = appendText(b, 2, c.method)
	b = protowire.AppendTag(b, 3, protowire.BytesType)
	return protowire.AppendBytes(b, c.payload)
}

func appendText(b []byte, number protowire.Number, text string) []byte {
	return protowire.AppendString(protowire.AppendTag(b, number, protowire.BytesType), text)
}

func appendNumber(b []byte, number protowire.Number, value uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, number, protowire.VarintType), value)
}

// encodeAnswer returns a response of ttrpc.
func encodeAnswer(code uint64, text string, payload []byte) []byte {
	var b []byte
	if code != codeOK {
		status := appendText(appendNumber(nil, 1, code), 2, text)
		b = protowire.AppendBytes(protowire.AppendTag(b, 1, protowire.BytesType), status)
	}
	b = protowire.AppendTag(b, 2, protowire.BytesType)
	return protowire.AppendBytes(b, payload)
}

// refusal returns why a call was refused, nil if it was not.
func refusal(answer []byte) error {
	var code uint64
	var text string
	err := eachField(answer, func(f *field) error {
		if f.number != 1 || f.kind != protowire.BytesType {
			return nil
		}
		return eachField(f.text, func(f *field) error {
			switch {
			case f.number == 1 && f.kind == protowire.VarintType:
				code = f.value
			case f.number == 2 && f.kind == protowire.BytesType:
				text = string(f.text)
			}
			return nil
		})
	})
	if err == nil && code != codeOK {
		err = fmt.Errorf("the runtime refuses: %.200q (code %d)", text, code)
	}
	return err
}

// configuration is what the runtime says of itself.
type configuration struct {
	name, version string
	limit         uint64 // milliseconds that a call may take
}

func parseConfiguration(b []byte) (c configuration, err error) {
	err = eachField(b, func(f *field) error {
		switch {
		case f.number == 2 && f.kind == protowire.BytesType:
			c.name = string(f.text)
		case f.number == 3 && f.kind == protowire.BytesType:
			c.version = string(f.text)
		case f.number == 5 && f.kind == protowire.VarintType:
			c.limit = f.value
		}
		return nil
	})
	return c, err
}

// parsePods returns the pods of a call to synchronize, and whether another one follows.
func parsePods(b []byte) (pods []Pod, more bool, err error) {
	err = eachField(b, func(f *field) error {
		switch {
		case f.number == 1 && f.kind == protowire.BytesType:
			pod, err := parsePod(f.text)
			pods = append(pods, pod)
			return err
		case f.number == 3 && f.kind == protowire.VarintType:
			more = f.value != 0
		}
		return nil
	})
	return pods, more, err
}

// parseEvent returns an event's number and its pod: that of field 1 of a call of its own,
// and that of field 2 where field 1 is the number.
func parseEvent(b []byte) (event uint64, pod Pod, err error) {
	err = eachField(b, func(f *field) (err error) {
		switch {
		case f.number == 1 && f.kind == protowire.VarintType:
			event = f.value
		case f.number <= 2 && f.kind == protowire.BytesType:
			pod, err = parsePod(f.text)
		}
		return err
	})
	return event, pod, err
}

func parsePod(b []byte) (p Pod, err error) {
	p.Labels = make(map[string]string)
	to := map[protowire.Number]*string{1: &p.ID, 2: &p.Name, 3: &p.UID, 4: &p.Namespace}
	err = eachField(b, func(f *field) error {
		if f.kind != protowire.BytesType {
			return nil
		}
		if text := to[f.number]; text != nil {
			*text = string(f.text)
		}
		if f.number == 5 {
			var name, value string
			err := texts(f.text, map[protowire.Number]*string{1: &name, 2: &value})
			p.Labels[name] = value
			return err
		}
		return nil
	})
	return p, err
}
