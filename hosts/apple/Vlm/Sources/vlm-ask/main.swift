// A question about a picture on a Mac: vlm-ask BUNDLE PICTURE QUESTION

import Foundation
import VlmHost

let arguments = Array(CommandLine.arguments.dropFirst())
guard arguments.count == 3 else {
    FileHandle.standardError.write(Data("usage: vlm-ask BUNDLE PICTURE QUESTION\n".utf8))
    exit(2)
}
do {
    let picture = try uprightPicture(from: Data(contentsOf: URL(filePath: arguments[1])))
    let bundle = try await VlmBundle(at: URL(filePath: arguments[0]))
    print(try await bundle.answer(to: arguments[2], about: picture))
} catch {
    FileHandle.standardError.write(Data("error: \(error.localizedDescription)\n".utf8))
    exit(1)
}
