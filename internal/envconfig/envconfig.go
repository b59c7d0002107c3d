// Package envconfig reads configuration from variables of the environment.
package envconfig

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/caarlos0/env/v11"

	"github.com/onecall-dev/onecall/internal/nearest"
	"github.com/onecall-dev/onecall/internal/quote"
)

// tag is the key of the struct tag with the name of a field's variable.
const tag = "env"

// Names returns the variables of a struct, whose fields all have a tag such as
// `env:"ONECALL_ZONE"`.
func Names(of any) []string {
	var names []string
	for _, field := range reflect.VisibleFields(reflect.TypeOf(of)) {
		names = append(names, field.Tag.Get(tag))
	}
	return names
}

// Read returns a struct with the values of its variables. An empty variable counts as one
// that is not set. It is an error if a value does not have the type of its field, or if
// the environment has an unknown variable that begins with prefix and with none of others.
// The error names the variable.
func Read[T any](prefix string, others ...string) (read T, err error) {
	err = errors.Join(unknown(Names(read), prefix, others), parse(&read))
	return read, err
}

// parse sets the fields.
func parse[T any](read *T) error {
	err := env.Parse(read)
	var all env.AggregateError
	if !errors.As(err, &all) {
		return err
	}
	var errs []error
	for _, err := range all.Errors {
		if wrong, ok := errors.AsType[env.ParseError](err); ok {
			field, _ := reflect.TypeFor[T]().FieldByName(wrong.Name)
			err = fmt.Errorf("variable %s: %w", field.Tag.Get(tag), wrong.Err)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// unknown returns an error for each variable that is not known.
func unknown(known []string, prefix string, others []string) error {
	var errs []error
	for _, variable := range os.Environ() {
		name, _, _ := strings.Cut(variable, "=")
		if !strings.HasPrefix(name, prefix) || slices.Contains(known, name) ||
			slices.ContainsFunc(others, func(other string) bool { return strings.HasPrefix(name, other) }) {
			continue
		}
		text := fmt.Sprintf("variable %s: is not known: remove it, or take another prefix", quote.Line(name, quote.TextLimit))
		if near := nearest.Names(name, known, 1); len(near) > 0 {
			text += ": did you mean " + near[0] + "?"
		}
		errs = append(errs, errors.New(text))
	}
	return errors.Join(errs...)
}
