import Foundation
import ImageIO

public protocol LanguageModel: Sendable {}

public final class LanguageModelSession: Sendable {
    public struct Response<Content> {
        public var content: Content { fatalError() }
    }

    public init(model: some LanguageModel, instructions: String? = nil) {}

    public func respond(@PromptBuilder prompt: () throws -> Prompt) async throws -> Response<String>
    {
        fatalError()
    }
}

public protocol PromptRepresentable {
    var promptRepresentation: Prompt { get }
}

public struct Prompt: PromptRepresentable, Sendable {
    public var promptRepresentation: Prompt { self }
}

extension String: PromptRepresentable {
    public var promptRepresentation: Prompt { fatalError() }
}

public protocol AttachmentContent {}

public struct ImageAttachmentContent: AttachmentContent {}

public struct Attachment<Content: AttachmentContent> {}

extension Attachment: PromptRepresentable where Content == ImageAttachmentContent {
    public init(_ image: CGImage, orientation: CGImagePropertyOrientation? = nil) { fatalError() }
    public var promptRepresentation: Prompt { fatalError() }
}

@resultBuilder
public struct PromptBuilder {
    public static func buildExpression<P: PromptRepresentable>(_ expression: P) -> P { expression }
    public static func buildBlock<each P: PromptRepresentable>(_ parts: repeat each P) -> Prompt {
        fatalError()
    }
}
