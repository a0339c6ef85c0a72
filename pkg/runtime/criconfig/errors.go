package criconfig

import "fmt"

// Reasons of an Error, as the kubelet reports them.
const (
	ReasonContainerConfig = "CreateContainerConfigError" // waiting reason of the container
	ReasonSandboxConfig   = "ConfigPodSandboxError"
)

// Error says why a configuration cannot be made. Its text is what the kubelet
// puts into the waiting message.
type Error struct {
	reason string
	err    error
}

// Error implements error.
func (e *Error) Error() string { return e.err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.err }

// Reason returns the waiting reason for the container's status.
func (e *Error) Reason() string { return e.reason }

func containerErrorf(format string, args ...any) error {
	return &Error{reason: ReasonContainerConfig, err: fmt.Errorf(format, args...)}
}

func sandboxErrorf(format string, args ...any) error {
	return &Error{reason: ReasonSandboxConfig, err: fmt.Errorf(format, args...)}
}
