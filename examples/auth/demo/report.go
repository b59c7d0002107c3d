package main

import (
	"fmt"
	"time"
)

// report prints what each step did and what it returned.
type report struct {
	steps, wrong int
}

// step begins a step.
func (r *report) step(title string) {
	r.steps++
	fmt.Printf("\n%2d  %s\n", r.steps, title)
}

// printf prints the result of a step, and whether it was right.
func (r *report) printf(right bool, format string, args ...any) {
	mark := "ok   "
	if !right {
		mark = "WRONG"
		r.wrong++
	}
	fmt.Printf("    %s  %s\n", mark, fmt.Sprintf(format, args...))
}

// end prints a summary. It returns an error if anything was wrong.
func (r *report) end(took time.Duration) error {
	if r.wrong > 0 {
		return fmt.Errorf("%d things went otherwise than they should", r.wrong)
	}
	fmt.Printf("\nall %d steps went as they should, in %.1f s\n", r.steps, took.Seconds())
	return nil
}

// ms formats a duration in milliseconds.
func ms(d time.Duration) string {
	if d < 10*time.Millisecond {
		return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
	}
	return fmt.Sprintf("%d ms", d.Milliseconds())
}
