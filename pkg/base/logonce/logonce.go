// Package logonce keeps what fails again and again from being logged again and again.
package logonce

// Error remembers the last error of something that is tried repeatedly. The zero value has
// seen none. Not safe for concurrent use.
type Error struct{ last string }

// Note takes in what a try came to and reports whether to log it: an error that is not
// the last one. nil ends the failing, so that the same error counts as new afterwards.
func (e *Error) Note(err error) (log bool) {
	if err == nil {
		e.last = ""
		return false
	}
	text := err.Error()
	log = text != e.last
	e.last = text
	return log
}
