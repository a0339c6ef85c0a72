package podobjects

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	authentication "k8s.io/api/authentication/v1"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clocktesting "k8s.io/utils/clock/testing"
)

// issuer answers TokenRequests with numbered tokens that live as long as requested.
type issuer struct {
	clock *clocktesting.FakePassiveClock

	mu       sync.Mutex
	err      error
	requests []*authentication.TokenRequest
}

func (i *issuer) issue(r *authentication.TokenRequest) (*authentication.TokenRequest, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.requests = append(i.requests, r)
	if i.err != nil {
		return nil, i.err
	}
	out := r.DeepCopy()
	out.Status.Token = fmt.Sprint("token-", len(i.requests))
	out.Status.ExpirationTimestamp = metav1.NewTime(i.clock.Now().Add(time.Duration(*r.Spec.ExpirationSeconds) * time.Second))
	return out, nil
}

func (i *issuer) asked() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return len(i.requests)
}

func (i *issuer) fail(err error) {
	i.mu.Lock()
	i.err = err
	i.mu.Unlock()
}

func newTokens(t *testing.T) (*Tokens, *issuer) {
	t.Helper()
	// Expiries are sent in whole seconds.
	i := &issuer{clock: clocktesting.NewFakePassiveClock(time.Now().Truncate(time.Second))}
	s, client := newAPIServer(t)
	s.token = i.issue
	tokens, err := NewTokens(client, i.clock)
	if err != nil {
		t.Fatal(err)
	}
	return tokens, i
}

func (i *issuer) pass(d time.Duration) { i.clock.SetTime(i.clock.Now().Add(d)) }

func accountPod(uid string) *v1.Pod {
	p := podOf(uid)
	p.Spec.ServiceAccountName = "sa"
	return p
}

func tokenOf(t *testing.T, tokens *Tokens, pod *v1.Pod, audience string, seconds int64) string {
	t.Helper()
	got, err := tokens.Token(t.Context(), pod, audience, seconds)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestATokenIsBoundToItsPodAndAskedForOnce(t *testing.T) {
	tokens, i := newTokens(t)
	pod := accountPod("1")
	for range 3 {
		if got := tokenOf(t, tokens, pod, "vault", 3600); got != "token-1" {
			t.Errorf("token %q", got)
		}
	}
	want := authentication.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: "pod-1", UID: "1"}
	if spec := i.requests[0].Spec; *spec.BoundObjectRef != want || !slices.Equal(spec.Audiences, []string{"vault"}) || *spec.ExpirationSeconds != 3600 {
		t.Errorf("request %+v", spec)
	}
	for name, ask := range map[string]func(){
		"another pod":      func() { tokenOf(t, tokens, accountPod("2"), "vault", 3600) },
		"another audience": func() { tokenOf(t, tokens, pod, "", 3600) },
		"another life":     func() { tokenOf(t, tokens, pod, "vault", 7200) },
	} {
		before := i.asked()
		if ask(); i.asked() != before+1 {
			t.Errorf("%s was not asked for", name)
		}
	}
	if got := i.requests[len(i.requests)-1]; got.Spec.ExpirationSeconds == nil {
		t.Error("no expiry was asked for")
	}
}

func TestOneOfManyCallersAsks(t *testing.T) {
	tokens, i := newTokens(t)
	pod := accountPod("1")
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if got, err := tokens.Token(t.Context(), pod, "", 3600); err != nil || got != "token-1" {
				t.Errorf("token %q, %v", got, err)
			}
		})
	}
	if all.Wait(); i.asked() != 1 {
		t.Errorf("asked %d times", i.asked())
	}
}

func TestATokenIsRenewedAtFourFifthsOfItsLife(t *testing.T) {
	tokens, i := newTokens(t)
	pod := accountPod("1")
	tokenOf(t, tokens, pod, "", 3600)
	i.pass(2880*time.Second - maxTokenJitter - time.Second)
	if got := tokenOf(t, tokens, pod, "", 3600); got != "token-1" {
		t.Errorf("renewed too early: %s", got)
	}
	i.pass(maxTokenJitter + time.Second)
	if got := tokenOf(t, tokens, pod, "", 3600); got != "token-2" {
		t.Errorf("not renewed at 80 %%: %s", got)
	}
}

func TestATokenOfALongLifeIsRenewedEveryDay(t *testing.T) {
	tokens, i := newTokens(t)
	pod := accountPod("1")
	const month = 30 * 24 * 3600
	tokenOf(t, tokens, pod, "", month)
	i.pass(24*time.Hour - maxTokenJitter - time.Second)
	if got := tokenOf(t, tokens, pod, "", month); got != "token-1" {
		t.Errorf("renewed too early: %s", got)
	}
	i.pass(maxTokenJitter + time.Second)
	if got := tokenOf(t, tokens, pod, "", month); got != "token-2" {
		t.Errorf("not renewed after a day: %s", got)
	}
}

func TestATokenThatCannotBeRenewedServesItsLifeOut(t *testing.T) {
	tokens, i := newTokens(t)
	pod := accountPod("1")
	tokenOf(t, tokens, pod, "", 3600)
	i.fail(errors.New("away"))
	i.pass(50 * time.Minute)
	for range 3 {
		if got := tokenOf(t, tokens, pod, "", 3600); got != "token-1" {
			t.Errorf("token %q", got)
		}
	}
	if n := i.asked(); n != 2 {
		t.Errorf("asked %d times within 10 s of a failure, want once", n-1)
	}
	i.pass(tokenRetry)
	tokenOf(t, tokens, pod, "", 3600)
	if n := i.asked(); n != 3 {
		t.Errorf("asked %d times, want once more after 10 s", n)
	}
	i.pass(10 * time.Minute)
	if _, err := tokens.Token(t.Context(), pod, "", 3600); err == nil || !strings.Contains(err.Error(), "expired and refresh failed") {
		t.Errorf("after its life: %v", err)
	}
	i.fail(nil)
	if got := tokenOf(t, tokens, pod, "", 3600); !strings.HasPrefix(got, "token-") {
		t.Errorf("token %q", got)
	}
}

func TestTheFirstTokenFailsWithTheReason(t *testing.T) {
	tokens, i := newTokens(t)
	i.fail(errors.New("away"))
	if _, err := tokens.Token(t.Context(), accountPod("1"), "", 3600); err == nil || !strings.Contains(err.Error(), "failed to fetch token: ") {
		t.Errorf("error = %v", err)
	}
	if _, err := tokens.Token(t.Context(), podOf("1"), "", 3600); err == nil || !strings.Contains(err.Error(), "no service account") {
		t.Errorf("without a service account: %v", err)
	}
}

func TestTokensGoWithTheirPod(t *testing.T) {
	tokens, _ := newTokens(t)
	tokenOf(t, tokens, accountPod("1"), "", 3600)
	tokenOf(t, tokens, accountPod("2"), "", 3600)
	tokens.Forget("1")
	if len(tokens.tokens) != 1 {
		t.Errorf("%d tokens are left, want the other pod's", len(tokens.tokens))
	}
	if got := tokenOf(t, tokens, accountPod("1"), "", 3600); got != "token-3" {
		t.Errorf("token %q of a pod that was forgotten", got)
	}
}

func TestExpiredTokensAreNotKept(t *testing.T) {
	tokens, i := newTokens(t)
	tokenOf(t, tokens, accountPod("1"), "", 3600)
	tokenOf(t, tokens, accountPod("1"), "", 7200)
	i.pass(time.Hour)
	tokenOf(t, tokens, accountPod("2"), "", 3600)
	if len(tokens.tokens) != 2 {
		t.Errorf("%d tokens are kept, want the two that still hold", len(tokens.tokens))
	}
}
