package grpccode

import (
	"fmt"
	"testing"

	"google.golang.org/grpc/codes"
)

func TestARefusalKeepsItsCodeAndReadsWellWhenItIsWrapped(t *testing.T) {
	for _, tc := range []struct {
		err  error
		code codes.Code
		text string
	}{
		{Refused(codes.Unavailable, "docker is %s", "away"), codes.Unavailable, "stop it: docker is away"},
		{Invalid("config.name", "%q is no name", "/"), codes.InvalidArgument, `stop it: config.name: "/" is no name`},
		{NotFound("sandbox", "7"), codes.NotFound, `stop it: sandbox "7" does not exist`},
	} {
		err := fmt.Errorf("stop it: %w", tc.err)
		if Of(err) != tc.code || err.Error() != tc.text {
			t.Errorf("%v with code %v, want %q with %v", err, Of(err), tc.text, tc.code)
		}
	}
}
