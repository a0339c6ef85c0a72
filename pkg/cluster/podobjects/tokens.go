package podobjects

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	authentication "k8s.io/api/authentication/v1"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	core "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
)

// When tokens are renewed, by the kubelet's rules.
const (
	maxTokenAge    = 24 * time.Hour
	maxTokenJitter = 10 * time.Second
	tokenTimeout   = 10 * time.Second // for one TokenRequest
	tokenRetry     = 10 * time.Second // after a failed renewal of a token that is still valid
)

// Tokens gives service-account tokens that are bound to pods. Safe for concurrent use.
type Tokens struct {
	client core.CoreV1Interface
	clock  clock.PassiveClock

	mu     sync.Mutex
	tokens map[tokenKey]*token
}

type tokenKey struct {
	pod                       types.UID
	namespace, name, audience string
	seconds                   int64
}

// token is a token that was requested or is being requested. The holder of asking
// may change it.
type token struct {
	asking  chan struct{}
	value   string
	renew   time.Time // when to replace it
	expires time.Time
	retry   time.Time // not to be requested before
}

// NewTokens returns a Tokens that asks client; c nil is the real clock.
func NewTokens(client core.CoreV1Interface, c clock.PassiveClock) (*Tokens, error) {
	if client == nil {
		return nil, errors.New("tokens: no client")
	}
	if c == nil {
		c = clock.RealClock{}
	}
	return &Tokens{client: client, clock: c, tokens: map[tokenKey]*token{}}, nil
}

// Token returns a token of the pod's service account for that audience ("" is the
// API server's own), valid as long as the pod exists and for that many seconds (0
// is an hour). At least a fifth of that time is left, unless the server could not
// be reached since. Callers of one token share one request.
func (t *Tokens) Token(ctx context.Context, pod *v1.Pod, audience string, expirationSeconds int64) (string, error) {
	s, err := t.TokenStatus(ctx, pod, audience, expirationSeconds)
	return s.Token, err
}

// TokenStatus is Token with the time at which the token expires.
func (t *Tokens) TokenStatus(ctx context.Context, pod *v1.Pod, audience string, expirationSeconds int64) (s authentication.TokenRequestStatus, err error) {
	if pod.Spec.ServiceAccountName == "" {
		return s, fmt.Errorf("pod %s/%s has no service account to issue a token for", pod.Namespace, pod.Name)
	}
	if expirationSeconds == 0 {
		expirationSeconds = 60 * 60
	}
	k := tokenKey{pod.UID, pod.Namespace, pod.Spec.ServiceAccountName, audience, expirationSeconds}
	tok := t.entry(k)
	select {
	case tok.asking <- struct{}{}:
		defer func() { <-tok.asking }()
	case <-ctx.Done():
		return s, fmt.Errorf("failed to fetch token: %w", context.Cause(ctx))
	}
	now := t.clock.Now()
	if tok.value != "" && (now.Before(tok.renew) || now.Before(tok.retry) && now.Before(tok.expires)) {
		return tok.status(), nil
	}
	answer, err := t.request(ctx, pod, k)
	switch now = t.clock.Now(); {
	case err == nil:
		tok.value, tok.expires = answer.Status.Token, answer.Status.ExpirationTimestamp.Time
		tok.renew = renewal(now, tok.expires, answer.Spec.ExpirationSeconds, expirationSeconds)
		tok.retry = time.Time{}
		return tok.status(), nil
	case tok.value == "":
		return s, fmt.Errorf("failed to fetch token: %w", err)
	case !now.Before(tok.expires):
		return s, fmt.Errorf("token of service account %s/%s expired and refresh failed: %w", k.namespace, k.name, err)
	}
	klog.ErrorS(err, "Could not renew a token, using the one that is still valid", "pod", klog.KObj(pod), "podUID", pod.UID, "serviceAccount", k.name, "expires", tok.expires)
	tok.retry = now.Add(tokenRetry)
	return tok.status(), nil
}

// status is the token with its expiry. For the holder of asking.
func (t *token) status() authentication.TokenRequestStatus {
	return authentication.TokenRequestStatus{Token: t.value, ExpirationTimestamp: metav1.NewTime(t.expires)}
}

// Forget drops the tokens of a pod that is gone.
func (t *Tokens) Forget(pod types.UID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for k := range t.tokens {
		if k.pod == pod {
			delete(t.tokens, k)
		}
	}
}

func (t *Tokens) entry(k tokenKey) *token {
	t.mu.Lock()
	defer t.mu.Unlock()
	tok := t.tokens[k]
	if tok == nil {
		t.sweep()
		tok = &token{asking: make(chan struct{}, 1)}
		t.tokens[k] = tok
	}
	return tok
}

// sweep drops tokens that have expired, such as one that was requested while its
// pod was forgotten. Called with the lock held.
func (t *Tokens) sweep() {
	now := t.clock.Now()
	for k, tok := range t.tokens {
		select {
		case tok.asking <- struct{}{}:
			if !now.Before(tok.expires) {
				delete(t.tokens, k)
			}
			<-tok.asking
		default: // in use
		}
	}
}

func (t *Tokens) request(ctx context.Context, pod *v1.Pod, k tokenKey) (*authentication.TokenRequest, error) {
	ctx, cancel := context.WithTimeout(ctx, tokenTimeout)
	defer cancel()
	r := &authentication.TokenRequest{Spec: authentication.TokenRequestSpec{
		ExpirationSeconds: &k.seconds,
		BoundObjectRef:    &authentication.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID},
	}}
	if k.audience != "" {
		r.Spec.Audiences = []string{k.audience}
	}
	answer, err := t.client.ServiceAccounts(k.namespace).CreateToken(ctx, k.name, r, metav1.CreateOptions{})
	if err == nil && answer.Status.Token == "" {
		err = errors.New("the API server issued an empty token")
	}
	return answer, err
}

// renewal returns when to replace a token that was issued now: at 80 % of its life
// or after 24 h, and a little earlier, so that pods started together do not ask
// together. The server may have granted another lifetime than was requested.
func renewal(now, expires time.Time, granted *int64, asked int64) time.Time {
	seconds := asked
	if granted != nil {
		seconds = *granted
	}
	life := time.Duration(seconds) * time.Second
	issued := expires.Add(-life)
	if issued.After(now) {
		issued = now // clocks differ
	}
	at := expires.Add(-life / 5)
	if day := issued.Add(maxTokenAge); day.Before(at) {
		at = day
	}
	return at.Add(-rand.N(maxTokenJitter))
}
