package main

import (
	_ "embed"
	"fmt"
	"strings"
	"testing"

	"github.com/berth-proxy/berth/router"
)

//go:embed testdata/grammar.txt
var grammarSource string

// grammar has the ways to write each command, by its row's name in the router's table.
type grammar map[string][]grammarRule

// grammarRule is one way to write a command's arguments; never says that a well-formed one must not be sent.
type grammarRule struct {
	args  []grammarNode
	never bool
}

// grammarNode is one element of a rule.
type grammarNode struct {
	kind byte            // 'w' word, '<' class, '[' optional, '{' repeated, '(' choice
	text string          // of a word or class
	alts [][]grammarNode // of the others; one of them all but for a choice
}

// parseGrammar reads the text of testdata/grammar.txt, which is ours: mistakes panic.
func parseGrammar(source string) grammar {
	g := grammar{}
	for _, line := range strings.Split(source, "\n") {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		name, rest, _ := strings.Cut(line, " ")
		if rest = strings.TrimSpace(rest); rest == "-" {
			g[name] = append(g[name], grammarRule{never: true})
			continue
		}
		alts, left := parseGrammarNodes(rest, 0)
		if left != "" || len(alts) != 1 {
			panic("grammar of " + name + ": " + left)
		}
		g[name] = append(g[name], grammarRule{args: alts[0]})
	}
	return g
}

// parseGrammarNodes reads alternatives up to the closing bracket and returns what is behind it.
func parseGrammarNodes(s string, closing byte) (alts [][]grammarNode, rest string) {
	var now []grammarNode
	for {
		s = strings.TrimLeft(s, " ")
		switch {
		case s == "" && closing == 0:
			return append(alts, now), ""
		case s == "":
			panic(fmt.Sprintf("grammar: no %q", closing))
		case closing != 0 && s[0] == closing:
			return append(alts, now), s[1:]
		case closing == ')' && s[0] == '|':
			alts, now, s = append(alts, now), nil, s[1:]
		case s[0] == '[', s[0] == '{', s[0] == '(':
			node := grammarNode{kind: s[0]}
			node.alts, s = parseGrammarNodes(s[1:], map[byte]byte{'[': ']', '{': '}', '(': ')'}[s[0]])
			now = append(now, node)
		case s[0] == '<':
			class, behind, found := strings.Cut(s[1:], ">")
			if !found || valueClasses[class] == nil {
				panic("grammar: no class at " + s)
			}
			now, s = append(now, grammarNode{kind: '<', text: class}), behind
		default:
			end := strings.IndexAny(s, " ])}|")
			if end < 0 {
				end = len(s)
			}
			now, s = append(now, grammarNode{kind: 'w', text: s[:end]}), s[end:]
		}
	}
}

// write appends the words of a rule's nodes to words.
func (g *inputMaker) write(words []string, nodes []grammarNode) []string {
	for _, n := range nodes {
		switch n.kind {
		case 'w':
			words = append(words, g.recase(n.text))
		case '<':
			words = append(words, valueClasses[n.text](g))
		case '[':
			if g.IntN(2) == 0 {
				words = g.write(words, n.alts[0])
			}
		case '{':
			for range g.IntN(4) {
				words = g.write(words, n.alts[0])
			}
		case '(':
			words = g.write(words, n.alts[g.IntN(len(n.alts))])
		}
	}
	return words
}

func TestGrammarHasEveryCommandOfTheTable(t *testing.T) {
	g := theGrammar()
	for _, c := range router.Builtin().Commands() {
		if g[c.Name] == nil {
			t.Errorf("testdata/grammar.txt lacks %s", c.Name)
		}
	}
	for name := range g {
		if c := router.Builtin().Find(name); c == nil || c.Name != name {
			t.Errorf("testdata/grammar.txt has %s, which the table has not", name)
		}
	}
}
