package config

import (
	"fmt"
	"strings"
)

// manualHead and manualTail are what the manual says besides the options.
const (
	manualHead = `.TH BERTH 1 "" "berth" "User Commands"
.SH NAME
berth \- Redis proxy for very many clients
.SH SYNOPSIS
.B berth
.RI [ BACKEND\-URL ]
.RI [ CONFIG\-FILE ]
.RB [ \-\-\fIoption " " \fIvalue " ...]"
.br
.B berth \-t
.RI [ CONFIG\-FILE ]
.RB [ \-\-\fIoption " " \fIvalue " ...]"
.br
.B berth \-\-healthcheck
.RI [ CONFIG\-FILE ]
.RB [ \-\-\fIoption " " \fIvalue " ...]"
.br
.B berth \-\-take\-over
.RI [ BACKEND\-URL ]
.RI [ CONFIG\-FILE ]
.RB [ \-\-\fIoption " " \fIvalue " ...]"
.br
.B berth \-\-help
|
.B \-\-version
.SH DESCRIPTION
berth takes thousands of connections of clients and makes a few to each Redis node. Applications keep
their client library and their commands, and change only the address. The nodes are one Redis or
Valkey, a primary that Sentinels watch, or a Redis Cluster, which berth shows as one Redis.
.PP
Options come from the file, then from the environment
.RB ( maxclients " is " BERTH_MAXCLIENTS ),
then from the command line. The later one counts.
.TP
.B \-t
Test the configuration, report every mistake, and end.
.TP
.B \-\-healthcheck
Ask the admin endpoint of a running berth whether it is ready, and end. The exit status is 0 if it is.
.TP
.B \-\-take\-over
Take the listening sockets of the running berth with the same
.BR take\-over\-socket ,
and its place. If this fails, the running berth goes on.
.TP
.BR \-h ", " \-\-help
List the options.
.TP
.BR \-v ", " \-\-version
Show the version and the commit.
.SH OPTIONS
Each may stand in the file as a line without the dashes.
`
	manualTail = `.SH SIGNALS
.TP
.BR SIGTERM ", " SIGINT
After
.B shutdown\-delay
berth accepts no more clients, lets requests under way end for at most
.BR shutdown\-timeout ,
and ends. A second signal ends the wait.
.TP
.B SIGHUP
berth opens
.B logfile
again, reads certificates and keys again, and gives each option the value that the configuration file
says now, if there is a file. The log says what is wrong, and what needs a restart.
.TP
.B SIGUSR1
berth opens
.B logfile
again, after a rotation, and changes nothing else.
.TP
.B SIGUSR2
berth starts its program anew, with the same arguments and
.BR \-\-take\-over .
.SH EXIT STATUS
0 after all requests under way had their replies. 1 after a mistake in the configuration, if a port
cannot be had, or if requests were under way when the time was over.
.SH FILES
.TP
.I /etc/berth/berth.conf
The configuration that the service reads.
.SH SEE ALSO
.BR redis\-cli (1)
.PP
https://github.com/berth\-proxy/berth
`
)

// Manual returns berth(1).
func Manual() string {
	var b strings.Builder
	b.WriteString(`.\" ` + generated + "\n" + manualHead)
	for _, o := range options {
		if h := headings[o.name]; h != "" {
			fmt.Fprintf(&b, ".SS %s\n", roff(h))
		}
		fmt.Fprintf(&b, ".TP\n\\fB%s\\fR \\fI%s\\fR\n%s Default: %s.", roff("--"+o.name), roff(o.value.unit()), roffHelp(o.help), roff(shownDefault(o)))
		if o.hot {
			b.WriteString(" CONFIG SET changes it.")
		}
		b.WriteByte('\n')
	}
	b.WriteString(manualTail)
	return b.String()
}

// shownDefault returns the default for readers.
func shownDefault(o *option) string {
	if o.def == `""` {
		return "none"
	}
	return o.def
}

var roffEscapes = strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`)

// roff returns text as a part of a line of a manual.
func roff(text string) string { return roffEscapes.Replace(text) }

// roffHelp returns a help text with code in bold.
func roffHelp(help string) string {
	var b strings.Builder
	for i, part := range strings.Split(help, "`") {
		if i%2 == 1 {
			part = `\fB` + roff(part) + `\fR`
		} else {
			part = roff(part)
		}
		b.WriteString(part)
	}
	text := b.String()
	if strings.HasPrefix(text, ".") {
		text = `\&` + text
	}
	return text
}
