package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/tokenkithq/authz/admin"
)

// signIn is what is known of the user's password and session. A change of
// password ends all sessions, in the same step or not at all.
type signIn struct {
	password string
	token    string // of a session under password; empty: none
	ended    string // of a session that an acknowledged change ended
	// changing is a password whose change was not acknowledged.
	changing string

	changes, acknowledged int
	err                   error // a refusal, which nothing asked for
}

// change signs in and changes the password.
func (p *signIn) change(s *server, client *admin.OperatorClient) {
	status, token, err := crashLogin(s, p.password)
	if err != nil {
		return // killed
	}
	if status != http.StatusOK {
		p.err = fmt.Errorf("signing in: status %d", status)
		return
	}
	p.token, p.ended = token, ""
	p.changes++
	p.acknowledged++
	p.changing = fmt.Sprintf("password number %d", p.changes)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := client.SetPassword(ctx, crashUser, p.changing); err != nil {
		if problem := (*admin.Problem)(nil); errors.As(err, &problem) {
			p.err = err
		}
		return
	}
	p.acknowledged++
	p.password, p.changing, p.token, p.ended = p.changing, "", "", p.token
}

// crashLogin returns the status and, where that is 200, a session's token.
func crashLogin(s *server, password string) (int, string, error) {
	body, err := json.Marshal(map[string]string{"username": crashUser, "password": password})
	if err != nil {
		return 0, "", err
	}
	return adminCall(s, http.MethodPost, "/api/users/auth/login/", "", body)
}

// adminCall makes a call of the public admin API and returns its status and,
// where it has one, the token in its answer.
func adminCall(s *server, method, path, token string, body []byte) (int, string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, "http://"+s.admin+path, bytes.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	request.Header.Set("Content-Type", "application/json")
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	request.Close = true
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	var answer struct{ Token string }
	if method == http.MethodPost && response.StatusCode == http.StatusOK {
		err = json.NewDecoder(response.Body).Decode(&answer)
	}
	return response.StatusCode, answer.Token, err
}

// verifySignIn checks the password and the session where they were changed, or
// about to be.
func (c *crashRun) verifySignIn(s *server) {
	p := &c.signIn
	if p.token == "" && p.ended == "" && p.changing == "" {
		return
	}
	works := func(password string) bool {
		status, _, err := crashLogin(s, password)
		if err != nil || status != http.StatusOK && status != http.StatusUnauthorized {
			c.t.Errorf("signing in after a start: status %d, %v", status, err)
		}
		return status == http.StatusOK
	}
	signedIn := func(token string) bool {
		status, _, err := adminCall(s, http.MethodGet, "/api/users/auth/api-keys/", token, nil)
		if err != nil || status != http.StatusOK && status != http.StatusUnauthorized {
			c.t.Errorf("using a session after a start: status %d, %v", status, err)
		}
		return status == http.StatusOK
	}
	changed := p.changing != "" && works(p.changing)
	if changed {
		p.password = p.changing
	} else if !works(p.password) {
		c.lost++
		c.t.Errorf("after %d kills: the password is not what was acknowledged", c.kills)
	}
	if p.token != "" && signedIn(p.token) == changed {
		c.halfApplied++
		c.t.Errorf("after %d kills: password changed: %v, but its session still there: %v", c.kills, changed, !changed)
	}
	if p.ended != "" && signedIn(p.ended) {
		c.lost++
		c.t.Errorf("after %d kills: a session that was ended is there again", c.kills)
	}
	p.token, p.ended, p.changing = "", "", ""
}
