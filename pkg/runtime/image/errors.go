package image

import (
	"time"

	"google.golang.org/grpc/status"
)

// Reasons of an Error: the container's waiting reasons.
const (
	ReasonInvalidName  = "InvalidImageName"
	ReasonInspect      = "ImageInspectError"
	ReasonNeverPull    = "ErrImageNeverPull"
	ReasonPull         = "ErrImagePull"
	ReasonPullBackOff  = "ImagePullBackOff"
	ReasonNoRegistry   = "RegistryUnavailable"
	ReasonBadSignature = "SignatureValidationFailed"
)

// Error says why an image cannot be had. Its text is the waiting message.
type Error struct {
	reason  string
	message string
	retry   time.Duration
}

// Error implements error.
func (e *Error) Error() string { return e.message }

// Reason returns the container's waiting reason.
func (e *Error) Reason() string { return e.reason }

// RetryAfter returns how long the back-off lasts; until then another try is
// pointless. 0: there is none.
func (e *Error) RetryAfter() time.Duration { return e.retry }

// text returns an error's text without the gRPC wrapping, which tells a user
// nothing.
func text(err error) string {
	if s, ok := status.FromError(err); ok {
		return s.Message()
	}
	return err.Error()
}
