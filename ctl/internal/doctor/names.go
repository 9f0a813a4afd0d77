// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"fmt"
	"strings"

	"github.com/nsqueue/nsqueue/ctl/internal/text"
	"github.com/nsqueue/nsqueue/daemon/api"
)

// serverNames says whether nsqueued comes to know what rules call server.names: from the
// DNS answers that it sees.
func (e *examination) serverNames(ctx context.Context) {
	n, err := e.namesOfRules(ctx)
	switch {
	case err != nil:
		e.notChecked(checkNames, e.Socket, err)
	case n == nil:
		e.ok(checkNames, "", "no rule in force asks for server.names")
	case len(n.Resolvers) == 0:
		e.add(Warning, checkNames, "", askers(n)+" read server.names, and rules.resolvers names "+
			"no DNS server: the answers of any server count, also of one that a pod's author runs",
			"Set rules.resolvers to the DNS servers by the addresses that pods ask, and restart "+
				"nsqueued.")
	case n.Answers == 0 && n.Questions+n.Refused+n.Others == 0 && e.status.Counters.Packets == 0:
		e.ok(checkNames, "", "no packet was inspected so far")
	case n.Answers == 0:
		why, remedy := withoutAnswers(n)
		e.add(Warning, checkNames, strings.Join(n.Resolvers, ", "), askers(n)+" read "+
			"server.names, and no DNS answer of rules.resolvers was seen since nsqueued has "+
			"started, so that server.names is empty: "+why, remedy)
	default:
		e.ok(checkNames, "", "%s of resolvers told names",
			text.Plural(int(n.Answers), "DNS answer"))
	}
}

// namesOfRules asks the daemon. Without rules it has no answer.
func (e *examination) namesOfRules(ctx context.Context) (*api.ServerNames, error) {
	if e.status.Rules == nil {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	r, err := e.client.Rules(ctx)
	if err != nil {
		return nil, fmt.Errorf("list rules: %w", err)
	}
	return r.ServerNames, nil
}

func askers(n *api.ServerNames) string {
	return "rules of " + text.Plural(n.Attachments, "attachment")
}

// withoutAnswers says why none was seen.
func withoutAnswers(n *api.ServerNames) (why, remedy string) {
	switch {
	case n.Refused > 0:
		return fmt.Sprintf("rules refuse what pods ask them, %s the last of %s", n.RefusedBy,
				text.Plural(int(n.Refused), "question")),
			"Accept DNS to these addresses by a rule that stands before it."
	case n.Others > 0:
		return fmt.Sprintf("pods ask others, %s the last of %s", n.Other,
				text.Plural(int(n.Others), "question")),
			"Add the address to rules.resolvers and restart nsqueued, if pods are to ask it."
	case n.Questions > 0:
		return text.Plural(int(n.Questions), "question") + " of pods had none",
			"See whether pods reach these addresses (nsqueuectl watch --port 53)."
	}
	return "pods have not asked",
		"See whom pods ask: DNS in TLS or HTTPS cannot be read. After a restart of nsqueued, " +
			"wait until pods ask again."
}
