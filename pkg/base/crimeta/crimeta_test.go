package crimeta

import (
	"testing"

	"google.golang.org/grpc/metadata"
)

func TestUnlessRunningIsSeenByTheServer(t *testing.T) {
	sent, _ := metadata.FromOutgoingContext(UnlessRunning(t.Context()))
	if !IsUnlessRunning(metadata.NewIncomingContext(t.Context(), sent)) {
		t.Error("it is not seen")
	}
	if IsUnlessRunning(t.Context()) || IsUnlessRunning(metadata.NewIncomingContext(t.Context(), metadata.Pairs("other", "true"))) {
		t.Error("it is seen where nobody asked")
	}
}
