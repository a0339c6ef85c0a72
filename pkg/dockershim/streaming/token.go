package streaming

import (
	"crypto/rand"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	tokenLife = time.Minute
	maxTokens = 1000
)

// tokens keeps requests until their URL is visited. The zero value is ready for use.
type tokens struct {
	mu   sync.Mutex
	reqs map[string]pending
}

type pending struct {
	asked
	expires time.Time
}

// asked is a request, and what it is the consequence of.
type asked struct {
	req   any
	cause uint64
}

// put returns a new token for req. It fails when too many tokens wait to be used.
func (t *tokens) put(req asked, now time.Time) (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for token, p := range t.reqs {
		if now.After(p.expires) {
			delete(t.reqs, token)
		}
	}
	if len(t.reqs) >= maxTokens {
		return "", status.Errorf(codes.ResourceExhausted, "%d streaming URLs wait to be used; the oldest expires within %v", maxTokens, tokenLife)
	}
	if t.reqs == nil {
		t.reqs = map[string]pending{}
	}
	token := rand.Text()
	t.reqs[token] = pending{req, now.Add(tokenLife)}
	return token, nil
}

// take returns the request of a token, once, or none.
func (t *tokens) take(token string, now time.Time) asked {
	t.mu.Lock()
	defer t.mu.Unlock()
	p, ok := t.reqs[token]
	delete(t.reqs, token)
	if !ok || now.After(p.expires) {
		return asked{}
	}
	return p.asked
}
