// Package client is what every program that calls a backup store shares: its settings, its errors, its SSH.
package client

import "fmt"

// Kind tells whose a failure is to mend; its value is the program's exit code.
type Kind int

const (
	KindDefect   Kind = 1
	KindSettings Kind = 2
	KindDatabase Kind = 3
	KindStore    Kind = 4
	KindRefused  Kind = 5
)

// Failure is an error of a known kind, one sentence long.
type Failure struct {
	Kind Kind
	err  error
}

func (f *Failure) Error() string { return f.err.Error() }
func (f *Failure) Unwrap() error { return f.err }

// Fail makes a Failure.
func Fail(kind Kind, format string, values ...any) error {
	return &Failure{Kind: kind, err: fmt.Errorf(format, values...)}
}

// ExitCode is what a program ends with after err.
func ExitCode(err error) int {
	if failure, ok := asFailure(err); ok {
		return int(failure.Kind)
	}
	return int(KindDefect)
}
