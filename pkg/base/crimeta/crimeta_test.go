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

func TestTheCauseIsKeptForLater(t *testing.T) {
	sent, _ := metadata.FromOutgoingContext(OutputLimit(Because(t.Context(), 42), 7))
	ctx := metadata.NewIncomingContext(t.Context(), sent)
	if got := CauseOf(ctx); got != 42 {
		t.Errorf("cause %d", got)
	}
	later := CausedBy(t.Context(), CauseOf(ctx))
	none := CausedBy(ctx, 0)
	if CauseOf(later) != 42 || CauseOf(none) != 0 || CauseOf(ctx) != 42 || OutputLimitOf(none, 100) != 7 {
		t.Errorf("later %d, none %d, still %d", CauseOf(later), CauseOf(none), CauseOf(ctx))
	}
}

func TestOutputLimit(t *testing.T) {
	for name, tc := range map[string]struct {
		sent metadata.MD
		want int
	}{
		"nothing":  {nil, 100},
		"less":     {metadata.Pairs(outputLimit, "10"), 10},
		"none":     {metadata.Pairs(outputLimit, "0"), 0},
		"more":     {metadata.Pairs(outputLimit, "1000"), 100},
		"negative": {metadata.Pairs(outputLimit, "-1"), 100},
		"no int":   {metadata.Pairs(outputLimit, "x"), 100},
		"several":  {metadata.Pairs(outputLimit, "20", outputLimit, "10"), 10},
	} {
		if got := OutputLimitOf(metadata.NewIncomingContext(t.Context(), tc.sent), 100); got != tc.want {
			t.Errorf("%s: %d, want %d", name, got, tc.want)
		}
	}
	sent, _ := metadata.FromOutgoingContext(OutputLimit(t.Context(), 7))
	if got := OutputLimitOf(metadata.NewIncomingContext(t.Context(), sent), 100); got != 7 {
		t.Errorf("sent 7, got %d", got)
	}
}
