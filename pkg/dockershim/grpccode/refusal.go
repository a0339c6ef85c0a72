package grpccode

import (
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// refusal is an error with its gRPC code. Unlike a gRPC status, it reads well when it is
// wrapped.
type refusal struct {
	code    codes.Code
	message string
}

func (r refusal) Error() string              { return r.message }
func (r refusal) GRPCStatus() *status.Status { return status.New(r.code, r.message) }

// Refused returns an error that reaches the client with the given code.
func Refused(code codes.Code, format string, args ...any) error {
	return refusal{code, fmt.Sprintf(format, args...)}
}

// Invalid refuses a request, naming the field that is wrong.
func Invalid(field, format string, args ...any) error {
	return Refused(codes.InvalidArgument, "%s: %s", field, fmt.Sprintf(format, args...))
}

// NotFound reports that the object with this ID does not exist; what says which kind it is.
func NotFound(what, id string) error {
	return Refused(codes.NotFound, "%s %q does not exist", what, id)
}
