package codec

import "bytes"

// RESP2 returns a reply as AppendRESP2 makes it: itself, if it is a string, an integer or an error.
func RESP2(reply []byte, pairs bool) []byte {
	switch reply[0] {
	case '$', '+', ':', '-':
		return reply
	}
	return AppendRESP2(nil, reply, pairs)
}

// AppendRESP2 appends a whole reply of RESP3 as a client of RESP2 gets it: maps and sets are arrays,
// doubles, big numbers and verbatim strings are bulk strings, booleans are integers, and what is not there
// is a string that is not there. With pairs, an array of pairs (ZRANGE WITHSCORES) is one array of all their
// elements. reply has no attributes.
func AppendRESP2(dst, reply []byte, pairs bool) []byte {
	for pos := 0; pos < len(reply); {
		line := bytes.Index(reply[pos:], lineEnd)
		kind, text, end := reply[pos], reply[pos+1:pos+line], pos+line+len(lineEnd)
		n, _ := parseInt(text)
		var body []byte
		if n >= 0 && (kind == '$' || kind == '=' || kind == '!') {
			body = reply[end : end+int(n)]
			end += int(n) + len(lineEnd)
		}
		switch {
		case kind == '=':
			dst = AppendBulk(dst, body[min(len("txt:"), len(body)):])
		case kind == '!':
			dst = AppendError(dst, string(body))
		case kind == ',', kind == '(':
			dst = AppendBulk(dst, text)
		case kind == '_':
			dst = AppendNull(dst, 2)
		case kind == '#':
			dst = AppendBool(dst, string(text) == "t", 2)
		case kind == '%', kind == '*' && pairs && pos == 0:
			dst = AppendMap(dst, int(n), 2)
		case kind == '~', kind == '>':
			dst = AppendArray(dst, int(n))
		case kind == '*' && pairs:
		default:
			dst = append(dst, reply[pos:end]...)
		}
		pos = end
	}
	return dst
}
