package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// parsePolicy reads a policy in JSON: an object whose values are lists of strings. Unlike
// package json it accepts no name twice, because the second rule would replace the first.
func parsePolicy(content []byte) (map[string][]string, error) {
	p := policyParser{json.NewDecoder(bytes.NewReader(content)), content}
	policy := make(map[string][]string)
	if err := p.delim('{'); err != nil {
		return nil, err
	}
	for p.More() {
		name, err := p.text()
		if err != nil {
			return nil, err
		}
		if _, twice := policy[name]; twice {
			return nil, p.wrong(fmt.Sprintf("%q is there twice", name))
		}
		if policy[name], err = p.list(); err != nil {
			return nil, err
		}
	}
	if err := p.delim('}'); err != nil {
		return nil, err
	}
	if _, err := p.Token(); !errors.Is(err, io.EOF) {
		return nil, p.wrong("there is more after the object")
	}
	return policy, nil
}

type policyParser struct {
	*json.Decoder

	content []byte
}

// wrong returns an error at the current line.
func (p policyParser) wrong(problem string) error {
	line := 1 + bytes.Count(p.content[:p.InputOffset()], []byte("\n"))
	return fmt.Errorf(`line %d: %s: write JSON such as {"auth": ["spiffe://example.org/shop"]}`, line, problem)
}

// next reads a token.
func (p policyParser) next() (json.Token, error) {
	token, err := p.Token()
	switch {
	case errors.Is(err, io.EOF):
		return nil, p.wrong("it ends too early")
	case err != nil:
		return nil, p.wrong(err.Error())
	default:
		return token, nil
	}
}

// delim reads a delimiter.
func (p policyParser) delim(want json.Delim) error {
	token, err := p.next()
	switch {
	case err != nil:
		return err
	case token != want:
		return p.wrong(fmt.Sprintf("there is %v where %v is expected", token, want))
	default:
		return nil
	}
}

// text reads a string.
func (p policyParser) text() (string, error) {
	token, err := p.next()
	if err != nil {
		return "", err
	}
	text, ok := token.(string)
	if !ok {
		return "", p.wrong(fmt.Sprintf("there is %v where a string is expected", token))
	}
	return text, nil
}

// list reads a list of strings.
func (p policyParser) list() ([]string, error) {
	list := []string{}
	if err := p.delim('['); err != nil {
		return nil, err
	}
	for p.More() {
		text, err := p.text()
		if err != nil {
			return nil, err
		}
		list = append(list, text)
	}
	return list, p.delim(']')
}
