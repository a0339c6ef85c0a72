package imageservice

import (
	"fmt"
	"regexp"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/grpccode"
)

// statusError makes an error of Docker a gRPC status: "<what was tried>: <why not>".
// A status stays what it is.
func statusError(err error, format string, args ...any) error {
	tried := fmt.Sprintf(format, args...)
	if s, ok := status.FromError(err); ok {
		return status.Errorf(s.Code(), "%s: %s", tried, s.Message())
	}
	return status.Errorf(code(err, args...), "%s: %v", tried, err)
}

// code says what kind of failure an error of the Docker client is. Docker puts
// many registries' answers under HTTP 500 or into the body of a pull, where only
// their text is left; the text therefore goes first. about are the images that the error
// is about: what they are called says nothing of it.
func code(err error, about ...any) codes.Code {
	if c := grpccode.Of(err); c == codes.DeadlineExceeded || c == codes.Canceled {
		return c
	}
	if c := registryCode(withoutNames(err.Error(), about)); c != codes.OK {
		return c
	}
	return grpccode.Of(err)
}

// withoutNames takes references of images out of a text, and their names without tag and
// digest.
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

// registryCode reads what a registry or the way to it said. The order matters: a
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
