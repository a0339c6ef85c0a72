package server

import (
	"errors"
	"net/http"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/klog/v2"
)

// fail answers with an error in plain text, as the kubelet does; otherwise is the
// HTTP status for errors that do not imply one.
func fail(w http.ResponseWriter, r *http.Request, err error, otherwise int) {
	klog.V(2).InfoS("Request failed", "path", r.URL.Path, "err", err, "client", r.RemoteAddr)
	code := otherwise
	switch status.Code(err) {
	case codes.NotFound:
		code = http.StatusNotFound
	case codes.InvalidArgument:
		code = http.StatusBadRequest
	case codes.Unimplemented:
		code = http.StatusNotImplemented
	case codes.ResourceExhausted:
		code = http.StatusTooManyRequests
		w.Header().Set("Retry-After", "60") // a runtime's URLs live for a minute
	}
	text := err.Error()
	if s, ok := status.FromError(err); ok {
		text = s.Message()
	}
	say(w, code, text)
}

// proxyFailed answers when a stream could not be proxied.
type proxyFailed struct{}

func (proxyFailed) Error(w http.ResponseWriter, r *http.Request, err error) {
	code := http.StatusInternalServerError
	if s := apierrors.APIStatus(nil); errors.As(err, &s) {
		code = int(s.Status().Code)
	}
	fail(w, r, err, code)
}
