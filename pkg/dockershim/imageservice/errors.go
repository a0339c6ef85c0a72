package imageservice

import (
	"fmt"
	"regexp"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/grpccode"
)

// statusError turns an error of Docker into a gRPC status: "<what was tried>: <why not>". An
// error that has a code already keeps it.
func statusError(err error, format string, args ...any) error {
	tried := fmt.Sprintf(format, args...)
	if s, ok := status.FromError(err); ok {
		return status.Errorf(s.Code(), "%s: %s", tried, s.Message())
	}
	return status.Errorf(code(err, args...), "%s: %v", tried, err)
}

// code classifies an error of the Docker client. Docker puts the answers of many registries
// under HTTP 500 or into the body of a pull, where only their text is left; the text is
// therefore looked at first. about holds the images that the error is about, whose names must
// not be taken for a reason.
func code(err error, about ...any) codes.Code {
	if c := grpccode.Of(err); c == codes.DeadlineExceeded || c == codes.Canceled {
		return c
	}
	if c := registryCode(withoutNames(err.Error(), about)); c != codes.OK {
		return c
	}
	return grpccode.Of(err)
}

// withoutNames removes references of images from a text, with and without tag and digest.
func withoutNames(text string, about []any) string {
	for _, a := range about {
		ref := fmt.Sprint(a)
		name, _, _ := strings.Cut(ref, "@")
		if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
			name = name[:i]
		}
		for _, n := range []string{ref, name} {
			if n != "" { // as a word of its own: one may be called "a"
				text = regexp.MustCompile(`(^|[^\w/])`+regexp.QuoteMeta(n)+`($|[^\w/])`).ReplaceAllString(text, "$1$2")
			}
		}
	}
	return text
}

// registryCode classifies what a registry said, or the way to it. The order matters: a
// denial may contain "not found" ("pull access denied for x, repository does not
// exist or may require 'docker login'").
func registryCode(text string) codes.Code {
	text = strings.ToLower(text)
	for _, kind := range []struct {
		code  codes.Code
		signs []string
	}{
		{codes.PermissionDenied, []string{"denied", "403 forbidden"}},
		{codes.Unauthenticated, []string{"unauthorized", "authentication required", "no basic auth credentials", "incorrect username or password"}},
		{codes.ResourceExhausted, []string{"toomanyrequests", "429 too many requests", "no space left on device"}},
		{codes.NotFound, []string{"manifest unknown", "name unknown", "no matching manifest"}},
		{codes.Unavailable, []string{
			"connection refused", "connection reset", "no such host", "i/o timeout", "no route to host", "network is unreachable",
			"tls handshake timeout", "client.timeout exceeded", "temporary failure in name resolution", "server misbehaving", "unexpected eof",
			"500 internal server error", "502 bad gateway", "503 service unavailable", "504 gateway timeout", "unexpected http status: 5",
		}},
	} {
		for _, sign := range kind.signs {
			if strings.Contains(text, sign) {
				return kind.code
			}
		}
	}
	return codes.OK
}
