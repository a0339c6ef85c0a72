package crimeta

import (
	"context"
	"testing"

	"google.golang.org/grpc/metadata"
)

func TestWhatTheAgentSaysIsSeenByTheServer(t *testing.T) {
	for name, tc := range map[string]struct {
		say  func(context.Context) context.Context
		said func(context.Context) bool
	}{
		"UnlessRunning":   {UnlessRunning, IsUnlessRunning},
		"WithoutStatuses": {WithoutStatuses, IsWithoutStatuses},
	} {
		sent, _ := metadata.FromOutgoingContext(tc.say(t.Context()))
		if !tc.said(metadata.NewIncomingContext(t.Context(), sent)) {
			t.Errorf("%s is not seen", name)
		}
		if tc.said(t.Context()) || tc.said(metadata.NewIncomingContext(t.Context(), metadata.Pairs("other", "true"))) {
			t.Errorf("%s is seen where nobody asked", name)
		}
	}
}
